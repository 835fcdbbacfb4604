"""Similarities of matching and of other pairs, counted in narrow bins: small, and a sum of its parts.

METHODS B10. A hundred thousand pairs in batches of 1,024 have 1e8 similarities. Their precision and
recall at any threshold follow from counts, which add up over batches, workers and interrupted runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Of cosines, from -1 to 1: a threshold is exact to 1e-4.
BINS = 20_000


@dataclass(frozen=True)
class Histogram:
    """Counts of similarities by bin.

    Attributes:
        low, high: what the bins span evenly. What lies outside is counted in the first or the last bin.
        matching: (bins,), int64.
        others: (bins,), int64.
    """

    low: float
    high: float
    matching: NDArray[np.int64]
    others: NDArray[np.int64]

    @classmethod
    def empty(cls, bins: int = BINS, low: float = -1.0, high: float = 1.0) -> Histogram:
        """Of no pairs."""
        return cls(low, high, np.zeros(bins, np.int64), np.zeros(bins, np.int64))

    @classmethod
    def of_batch(
        cls, similarities: Tensor, bins: int = BINS, low: float = -1.0, high: float = 1.0
    ) -> Histogram:
        """Of a batch of b pairs: the diagonal matches, and nothing else does.

        Args:
            similarities: (b, b), floating point.
            bins, low, high: see the class.

        Raises:
            ValueError: they are no square, or one of them is no number.
        """
        if similarities.ndim != 2 or len(similarities) != similarities.shape[1]:
            raise ValueError(f"the similarities of a batch are a square, not {tuple(similarities.shape)}")
        everybody = _counts(similarities, bins, low, high)
        matching = _counts(similarities.diagonal(), bins, low, high)
        return cls(low, high, matching, everybody - matching)

    def __add__(self, other: Histogram) -> Histogram:
        """Of the pairs of both.

        Raises:
            ValueError: their bins differ.
        """
        mine, theirs = ((each.low, each.high, len(each.matching)) for each in (self, other))
        if mine != theirs:
            raise ValueError(f"histograms of {mine} and {theirs} (low, high, bins) do not add up")
        return Histogram(self.low, self.high, self.matching + other.matching, self.others + other.others)

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """(bins,): the lower edge of each bin, ascending."""
        return np.linspace(self.low, self.high, len(self.matching) + 1)[:-1]

    def accepted(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Twice (bins,): how many matching and how many other pairs reach each threshold."""
        matching, others = (np.cumsum(each[::-1])[::-1] for each in (self.matching, self.others))
        return matching, others


def _counts(similarities: Tensor, bins: int, low: float, high: float) -> NDArray[np.int64]:
    values, scale = similarities.reshape(-1).float(), bins / (high - low)
    counts = np.zeros(bins, np.int64)
    if values.is_cuda:
        whole = not bool(torch.isnan(values).any())
        place = values.clamp(low, high).nan_to_num_().sub_(low).mul_(scale).to(torch.int64)
        counts += torch.bincount(place.clamp_(max=bins - 1), minlength=bins).cpu().numpy()
    else:
        whole = _count(values.numpy(), np.float32(low), np.float32(scale), counts)
    if not whole:
        raise ValueError("a similarity is no number: look for vectors that hold nan")
    return counts


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _count(
    values: NDArray[np.float32], low: np.float32, scale: np.float32, counts: NDArray[np.int64]
) -> bool:
    """Count each value in its bin; returns whether all are numbers, and stops at one that is none.

    One pass where array operations take five, which together last longer than the products.
    """
    last = len(counts) - 1
    for value in values:
        place = (value - low) * scale
        if place >= last:
            counts[last] += 1
        elif place >= 0:
            counts[int(place)] += 1
        elif place < 0:
            counts[0] += 1
        else:
            return False
    return True
