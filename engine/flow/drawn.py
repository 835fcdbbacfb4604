"""A seeded sample of a run's vectors, read by tasks that keep little more than is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from engine.clustering.drawing import bar, drawn, lots, share_of
from engine.embeddings import VectorTables
from engine.flow.spread import each, results, slices


def draw_vectors(vectors: VectorTables, parts: Sequence[str], rows: int, seed: int, count: int) -> list[Any]:
    """Read the images with the lowest lots.

    Args:
        vectors: of a run's images.
        parts: all parts of the run.
        rows: how many images these have.
        seed: of the run.
        count: how many are wanted.

    Returns:
        References to numbers (n,) and vectors (n, d), which stay where they were read: together
        somewhat more than `count` of them, or all that there are. `lowest` leaves out the others.
    """
    some, share = slices(parts), share_of(count, rows)
    while True:
        pieces = each(some, _draw, vectors, seed, share)
        if share == 1 or sum(results(each(pieces, _count))) >= count:
            return pieces
        share = min(1.0, 2 * share)  # many have no vector


def lowest(pieces: Sequence[Any], seed: int, count: int) -> tuple[NDArray[np.uint64], NDArray[Any]]:
    """The numbers and vectors of the `count` lowest lots among what `draw_vectors` referred to."""
    there = ray.get(list(pieces))
    numbers = np.concatenate([numbers for numbers, _ in there])
    chosen = drawn(numbers, seed, count)
    return numbers[chosen], np.concatenate([vectors for _, vectors in there])[chosen]


def _count(drawing: tuple[Any, Any]) -> int:
    return len(drawing[0])


def _draw(parts: Sequence[str], vectors: VectorTables, seed: int, share: float) -> tuple[Any, Any]:
    """The numbers and vectors of the drawn images of some parts."""
    numbers, rows, limit = [], [], bar(share)
    for part in parts:
        images = vectors.images(part)
        chosen = images.good & (lots(images.numbers, seed) <= limit)
        numbers.append(images.numbers[chosen])
        rows.append(images.vectors[chosen])
    return np.concatenate(numbers), np.concatenate(rows)
