"""The k rows of a gallery with the largest cosine to each query.

Blocked matrix products find candidates in float32; candidates are scored again in float64, each
pair by itself. So the result is exact, and depends neither on the size of the blocks nor on who
computed which: matrix products of other shapes round differently, and would order near ties anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: Rows of one matrix product: 1,024 x 8,192 float32 scores are 32 MiB.
QUERY_ROWS, GALLERY_ROWS = 1024, 8192
#: Pairs scored again at once: of 1,024 dimensions in float64 they take 256 MiB.
_PAIRS = 1 << 14


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
        device: where the products are computed, as torch names it.

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
    """Search the gallery for one block of queries, keeping the best k so far."""
    count, width = queries.shape
    single, double = queries.float(), queries.double()
    best = Nearest(np.full((count, k), -1), np.full((count, k), -np.inf))
    # What a product in float32 may be off by: d roundings of terms whose sizes sum to at most 1.
    slack = (width + 2) * 2.0**-23
    start = 0
    for part in _blocks(gallery, GALLERY_ROWS):
        block = torch.as_tensor(part, device=queries.device)
        products = single @ block.float().T
        bar = torch.as_tensor(best.scores[:, -1], device=queries.device)
        if start == 0:
            bar = products.topk(min(k, len(block)), dim=1).values[:, -1].double()
        query, row = torch.nonzero(products >= (bar - 2 * slack).float()[:, None], as_tuple=True)
        if len(query):
            scores = _score(double, block, query, row)
            best = _keep(best, query.cpu().numpy(), row.cpu().numpy() + first + start, scores, k)
        start += len(block)
    return best


def _score(queries: torch.Tensor, block: torch.Tensor, query: torch.Tensor, row: torch.Tensor) -> Any:
    """The cosine of each pair in float64."""
    pieces = [
        (queries[query[at : at + _PAIRS]] * block[row[at : at + _PAIRS]].double()).sum(dim=1)
        for at in range(0, len(query), _PAIRS)
    ]
    return torch.cat(pieces).cpu().numpy()


def _keep(best: Nearest, query: Any, row: Any, scores: Any, k: int) -> Nearest:
    """The best k of each query among those so far and new candidates."""
    touched = np.unique(query)
    old = np.repeat(touched, k)
    query = np.concatenate([old, query])
    row = np.concatenate([best.rows[touched].ravel(), row])
    scores = np.concatenate([best.scores[touched].ravel(), scores])
    order = np.lexsort((row, -scores, query))
    query, row, scores = query[order], row[order], scores[order]
    starts = np.searchsorted(query, touched)
    pick = starts[:, None] + np.arange(k)
    rows, all_scores = best.rows.copy(), best.scores.copy()
    rows[touched], all_scores[touched] = row[pick], scores[pick]
    return Nearest(rows, all_scores)


def _blocks(array: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    for start in range(0, len(array), size):
        yield np.ascontiguousarray(array[start : start + size])
