"""Exact neighbours over a run's images: each task searches the parts of a slice, the best are merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from engine.device import device_of
from engine.embeddings import VectorTables
from engine.flow.spread import each, results, slices
from engine.neighbours import Nearest, merge, nearest

#: In the place of a neighbour where there are no more.
NOBODY = np.uint64(2**64 - 1)
#: Parts that one task searches; it holds about `_ROWS` vectors and k rows a query.
_SLICE_PARTS = 32
#: Images that are searched at once.
_ROWS = 32_768
#: Results that are merged at once.
_FAN_IN = 16


def nearest_images(
    queries: Any, k: int, gallery: VectorTables, parts: Sequence[str], cpus: float = 1, gpus: float = 0
) -> Nearest:
    """The k images with the largest cosine to each query, over all parts.

    Exact, and the same however the images are cut into parts: of equal cosines the lower id comes
    first. Memory does not grow with the gallery.

    Args:
        queries: (q, d) unit vectors, or a reference to them.
        k: how many.
        gallery: whose images.
        parts: all parts of the run.
        cpus, gpus: that each task reserves; with a GPU the products are computed there.

    Returns:
        `rows` holds the images' ids as numbers (uint64; `NOBODY` where there are fewer than k),
        `scores` their cosines.
    """
    found = each(slices(parts, _SLICE_PARTS), _search, queries, k, gallery, gpus, cpus=cpus, gpus=gpus)
    while len(found) > 1:
        found = each(slices(found, _FAN_IN), _merge, k)
    made: Nearest = results(found)[0]
    return made


def _search(
    parts: Sequence[str], queries: NDArray[Any], k: int, gallery: VectorTables, gpus: float
) -> Nearest:
    device = device_of(gpus, "polysemy.gpus")
    best = Nearest(np.empty((len(queries), 0), np.uint64), np.empty((len(queries), 0)))
    for numbers, vectors in _together(parts, gallery):
        # In the order of their ids, so that the lower row of equal ones is the lower id.
        order = np.argsort(numbers)
        found = named(nearest(queries, vectors[order], k, device=device), numbers[order])
        best = merge([best, found], k)
    return best


def _together(
    parts: Sequence[str], gallery: VectorTables
) -> Iterator[tuple[NDArray[np.uint64], NDArray[Any]]]:
    """The ids and vectors of good images, some parts at once: each search begins without a bar."""
    held: list[tuple[NDArray[np.uint64], NDArray[Any]]] = []
    for number, part in enumerate(parts, 1):
        images = gallery.images(part)
        held.append((images.numbers[images.good], images.vectors[images.good]))
        if sum(len(numbers) for numbers, _ in held) >= _ROWS or number == len(parts):
            yield np.concatenate([numbers for numbers, _ in held]), np.concatenate([rows for _, rows in held])
            held = []


def named(found: Nearest, numbers: NDArray[np.uint64]) -> Nearest:
    """With ids as numbers in the place of rows."""
    missing = found.rows < 0
    ids = np.append(numbers, NOBODY)[np.where(missing, len(numbers), found.rows)]
    return Nearest(ids, found.scores)


def _merge(found: Sequence[Any], k: int) -> Nearest:
    return merge([ray.get(reference) for reference in found], k)
