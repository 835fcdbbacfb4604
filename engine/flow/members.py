"""The vectors of some samples out of all the parts, brought together for a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from engine.embeddings import VectorTables, rows_of
from engine.flow.spread import each, slices
from engine.polysemy.radius import Captions


@dataclass(frozen=True)
class Sources:
    """The tables that a measurement reads: image vectors of two encoders, captions of one."""

    looks: VectorTables
    images: VectorTables
    captions: VectorTables


@dataclass(frozen=True)
class Members:
    """Some samples, ascending by number.

    Attributes:
        numbers: (n,), uint64: ids as numbers.
        looks: (n, d): unit vectors in the space in which images are compared.
        images: (n, e): in the captions' space.
        captions: of these samples.
    """

    numbers: NDArray[np.uint64]
    looks: NDArray[Any]
    images: NDArray[Any]
    captions: Captions

    def rows(self, numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The rows of samples; -1 for those that are not here."""
        return rows_of(self.numbers, numbers)

    def take(self, rows: NDArray[np.int64]) -> Members:
        """Some rows, ascending."""
        places = self.captions.of(rows)
        counts = np.diff(self.captions.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        captions = Captions(self.captions.vectors[places], offsets)
        return Members(self.numbers[rows], self.looks[rows], self.images[rows], captions)


def gather(wanted: NDArray[np.uint64], sources: Sources, parts: Sequence[str]) -> list[Any]:
    """References to the `Members` among the wanted samples (ascending), by slices of the parts."""
    reference = ray.put(wanted)
    return each(slices(parts), _gather, reference, sources)


def collect(pieces: Sequence[Any], wanted: NDArray[np.uint64]) -> Members:
    """The wanted samples out of what `gather` found; called in a task."""
    taken = []
    for reference in pieces:
        piece: Members = ray.get(reference)
        taken.append(piece.take(np.flatnonzero(is_in(piece.numbers, wanted))))
    return join(taken)


def join(pieces: Sequence[Members]) -> Members:
    """Members of different samples as one."""
    numbers = np.concatenate([piece.numbers for piece in pieces])
    counts = np.concatenate([np.diff(piece.captions.offsets) for piece in pieces])
    captions = Captions(
        np.concatenate([piece.captions.vectors for piece in pieces]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )
    looks = np.concatenate([piece.looks for piece in pieces])
    images = np.concatenate([piece.images for piece in pieces])
    whole = Members(numbers, looks, images, captions)
    return whole.take(np.argsort(numbers))


def _gather(parts: Sequence[str], wanted: NDArray[np.uint64], sources: Sources) -> Members:
    return join([_of_part(part, wanted, sources) for part in parts])


def _of_part(part: str, wanted: NDArray[np.uint64], sources: Sources) -> Members:
    """The wanted samples of a part that have both image vectors; without captions, too."""
    looks, images, captions = (
        sources.looks.images(part),
        sources.images.images(part),
        sources.captions.captions(part),
    )
    here = is_in(looks.numbers, wanted) & looks.good & images.good
    whole = Members(
        looks.numbers, looks.vectors, images.vectors, Captions(captions.vectors, captions.offsets)
    )
    return whole.take(np.flatnonzero(here))


def is_in(numbers: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which numbers are among the wanted ones (ascending), (n,); without sorting these each time."""
    return np.asarray(rows_of(wanted, numbers) >= 0)
