"""The vectors of some samples out of all the parts, brought together for a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from engine.analyses import Sources
from engine.embeddings import rows_of
from engine.flow.spread import SLICE, results, slices
from engine.polysemy.account import Gaps
from engine.polysemy.radius import Captions

#: Tasks that read for all batches. A batch gets a piece from each of them; pieces of less than
#: 100 KiB Ray would keep in the driver.
_READERS = 32
#: How often a task is tried by workers that die.
_RETRIES = 3


@dataclass(frozen=True)
class Members:
    """Some samples, ascending by number.

    Attributes:
        numbers: (n,), uint64: ids as numbers.
        looks: (n, d): unit vectors in the space in which images are compared; zero where there is none.
        images: (n, e): in the captions' space; zero where there is none.
        captions: of these samples.
    """

    numbers: NDArray[np.uint64]
    looks: NDArray[Any]
    images: NDArray[Any]
    captions: Captions

    @property
    def looked(self) -> NDArray[np.bool_]:
        """Which have a vector in the space in which images are compared, (n,)."""
        return np.asarray(self.looks.any(axis=1))

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which have an image vector in the captions' space, (n,)."""
        return np.asarray(self.images.any(axis=1))

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


def gather(
    batches: Sequence[NDArray[np.uint64]], sources: Sources, parts: Sequence[str]
) -> tuple[list[list[Any]], Gaps]:
    """Read the wanted samples of some batches; each part is read once for all of them.

    Args:
        batches: the numbers (ascending) that each batch wants; one may be in several.
        sources: what is read.
        parts: all parts of the run.

    Returns:
        For each batch references to the `Members` that it wants, for `collect`: a batch is never sent
        what only others want. And what the whole run lacks; nothing is read where nobody wants anything.

    Raises:
        ConnoteError: what a task raised for the user.
    """
    if not batches:
        return [], Gaps()
    task = ray.remote(_gather).options(num_cpus=1, num_returns=len(batches) + 1, max_retries=_RETRIES)
    reference, some = ray.put(list(batches)), slices(parts, max(SLICE, -(-len(parts) // _READERS)))
    found = [task.remote(slice_, reference, sources) for slice_ in some]
    *pieces, gaps = (list(several) for several in zip(*found, strict=True))
    return pieces, Gaps.joined(results(gaps))


def collect(pieces: Sequence[Any]) -> Members:
    """The samples of one batch out of what `gather` found; called in a task."""
    return join([ray.get(reference) for reference in pieces])


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


def _gather(parts: Sequence[str], batches: Sequence[NDArray[np.uint64]], sources: Sources) -> list[Any]:
    wanted = np.unique(np.concatenate(batches))
    read = [_of_part(part, wanted, sources) for part in parts]
    found, gaps = join([members for members, _ in read]), Gaps.joined([gaps for _, gaps in read])
    pieces = [found.take(np.flatnonzero(is_in(found.numbers, batch))) for batch in batches]
    return [*pieces, gaps]


def _of_part(part: str, wanted: NDArray[np.uint64], sources: Sources) -> tuple[Members, Gaps]:
    """The wanted samples of a part, with and without vectors; and what all of the part lacks."""
    looks, images, captions = (
        sources.looks.images(part),
        sources.images.images(part),
        sources.captions.captions(part),
    )
    gaps = Gaps.of(looks, images, captions, (sources.looks.encoder, sources.images.encoder))
    whole = Members(
        looks.numbers, looks.vectors, images.vectors, Captions(captions.vectors, captions.offsets)
    )
    return whole.take(np.flatnonzero(is_in(looks.numbers, wanted))), gaps


def is_in(numbers: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which numbers are among the wanted ones (ascending), (n,); without sorting these each time."""
    return np.asarray(rows_of(wanted, numbers) >= 0)
