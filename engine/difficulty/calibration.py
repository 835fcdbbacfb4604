"""Calibrating a voter: which pairs are drawn, and in which batches they are compared (METHODS B10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.clustering.drawing import drawn, lots
from engine.difficulty.histogram import Histogram
from engine.evaluation.pairs import PartPairs


@dataclass(frozen=True)
class Drawn:
    """Images of a calibration set, each with one of its captions.

    Attributes:
        numbers: (n,), uint64: the images' ids as numbers.
        images: (n, d) or (n, k, d).
        texts: (n, d).
    """

    numbers: NDArray[np.uint64]
    images: NDArray[Any]
    texts: NDArray[Any]

    @classmethod
    def of(cls, pairs: PartPairs, seed: int) -> Drawn:
        """All images of a part that have a caption, each with the one that the seed chooses."""
        images, first, count = np.unique(pairs.owners, return_index=True, return_counts=True)
        numbers = pairs.numbers[images]
        chosen = first + (lots(numbers, seed + 1) % count.astype(np.uint64)).astype(np.int64)
        return cls(numbers, pairs.images[images], pairs.texts[chosen])

    @classmethod
    def joined(cls, found: Sequence[Drawn]) -> Drawn:
        """Of several parts."""
        names = ("numbers", "images", "texts")
        return cls(*(np.concatenate([getattr(each, name) for each in found]) for name in names))

    def below(self, lot: np.uint64, seed: int) -> Drawn:
        """Those whose lot is at most this one; see `engine.clustering.drawing`."""
        rows = lots(self.numbers, seed) <= lot
        return Drawn(self.numbers[rows], self.images[rows], self.texts[rows])

    def lowest(self, count: int, seed: int) -> Drawn:
        """Those with the lowest lots, in the order of their lots: it is the same however parts are cut."""
        rows = drawn(self.numbers, seed, count)
        return Drawn(self.numbers[rows], self.images[rows], self.texts[rows])


def batches(count: int, batch: int) -> Iterator[slice]:
    """Whole batches, since precision depends on their size; of fewer pairs than one batch all of them."""
    if count < batch:
        yield slice(0, count)
    for start in range(0, count - batch + 1, batch):
        yield slice(start, start + batch)


def count_batches(some: Drawn, batch: int, device: str = "cpu") -> Histogram:
    """The similarities within each batch: of an image and its own caption, and of all others."""
    counted = Histogram.empty()
    images, texts = (torch.from_numpy(each).to(device) for each in (some.images, some.texts))
    for rows in batches(len(some.numbers), batch):
        one, other = images[rows].float(), texts[rows].float()
        scores = one.flatten(0, -2) @ other.T
        if one.ndim == 3:
            scores = scores.view(len(one), one.shape[1], -1).amax(dim=1)
        counted += Histogram.of_batch(scores)
    return counted
