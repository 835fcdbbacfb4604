"""The k rows of a gallery with the largest cosine to each query.

Blocked matrix products in low precision find candidates, by a bar that no true neighbour can miss;
what is left at the end is scored again in float64, each pair by itself. So the result is exact, and
depends neither on the size of the blocks nor on who computed which: matrix products of other shapes
round differently, and would order near ties anew. Of float16 rows, as tables hold by default, these scores
have no rounding at all; of float32 ones processors of another kind may sum in another order, and so differ
in a score's last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.neighbours.candidates import Candidates

#: Rows of one matrix product: 1,024 x 4,096 float32 scores are 16 MiB.
QUERY_ROWS, GALLERY_ROWS = 1024, 4096


@dataclass(frozen=True)
class Nearest:
    """The nearest rows of each query, best first; of equal scores the lower row first.

    Attributes:
        rows: (n, k), int64 row numbers in the gallery; -1 where it has fewer than k rows.
        scores: (n, k), float64 cosines; -inf there.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]


def nearest(
    queries: NDArray[Any], gallery: NDArray[Any], k: int, first: int = 0, device: str = "cpu"
) -> Nearest:
    """Search all of a gallery, or the slice of it that begins at row `first`.

    Args:
        queries: (n, d), unit vectors, float16, float32 or float64.
        gallery: (m, d), unit vectors; an array mapped from a file is read block by block.
        k: how many, at least 1.
        first: the row number of `gallery[0]`.
        device: where the products are computed: cpu or cuda.

    Returns:
        At most k of each query, with row numbers from `first` on.

    Raises:
        ValueError: k is not positive, or the widths differ.
    """
    if k < 1:
        raise ValueError(f"k is {k}; ask for at least one neighbour")
    if queries.shape[1:] != gallery.shape[1:]:
        raise ValueError(
            f"queries have {queries.shape[1:]} dimensions, the gallery {gallery.shape[1:]}: other encoders"
        )
    # Rows are taken one by one later; of an array with gaps each taking would copy all of it.
    gallery = np.require(gallery, requirements=["C", "A"])
    found = [
        _search_block(torch.as_tensor(part, device=device), gallery, k, first)
        for part in _blocks(queries, QUERY_ROWS)
    ]
    empty = Nearest(np.empty((0, k), np.int64), np.empty((0, k)))
    return Nearest(
        np.concatenate([empty.rows, *(each.rows for each in found)]),
        np.concatenate([empty.scores, *(each.scores for each in found)]),
    )


def merge(parts: Sequence[Nearest], k: int) -> Nearest:
    """The nearest of the same queries over several slices of a gallery, in any order of slices."""
    rows = np.concatenate([part.rows for part in parts], axis=1)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    # Missing rows come last: their score is below every cosine.
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return Nearest(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))


def _search_block(queries: torch.Tensor, gallery: NDArray[Any], k: int, first: int) -> Nearest:
    """Search the gallery for one block of queries."""
    candidates, start = Candidates(queries, gallery, k), 0
    for part in _blocks(gallery, GALLERY_ROWS):
        candidates.add(torch.as_tensor(part, device=queries.device), start)
        start += len(part)
    rows, scores = candidates.best()
    return Nearest(np.where(rows >= 0, rows + first, -1), scores)


def _blocks(array: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    for start in range(0, len(array), size):
        block = np.ascontiguousarray(array[start : start + size])
        # torch warns of arrays that may not be written to, such as those in Ray's store.
        yield block if block.flags.writeable else block.copy()
