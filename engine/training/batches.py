"""The batches of an epoch, as rows and where each batch begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """Batches one after the other.

    Attributes:
        rows: (n,), int64: captions by batch.
        bounds: (batches + 1,), int64: where in `rows` each begins, and the end.
    """

    rows: Ints
    bounds: Ints


@dataclass(frozen=True)
class Batches:
    """The batches of an epoch; several streams take turns.

    Attributes:
        streams: with as many batches each.
        weights: in the loss, of each stream's batches.
    """

    streams: tuple[Stream, ...]
    weights: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.streams) * (len(self.streams[0].bounds) - 1)

    def __iter__(self) -> Iterator[tuple[Ints, float]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Ints, float]:
        """The captions of a batch (int64), and its weight in the loss."""
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        number, turn = divmod(index, len(self.streams))
        stream = self.streams[turn]
        return stream.rows[stream.bounds[number] : stream.bounds[number + 1]], self.weights[turn]


def even_bounds(captions: int, batches: int) -> Ints:
    """(batches + 1,): consecutive batches as even as can be."""
    return np.arange(batches + 1) * captions // max(batches, 1)


def shuffled_batches(rows: Ints, batch: Ints, batches: int, random: np.random.Generator) -> Stream:
    """The batches in random order, and each within itself; `batch` tells where each row belongs."""
    place = random.permutation(batches)[batch]
    mixed = random.permutation(len(rows))
    order = mixed[np.argsort(place[mixed], kind="stable")]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=batches))])
    return Stream(rows[order], bounds.astype(np.int64))
