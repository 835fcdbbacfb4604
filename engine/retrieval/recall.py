"""What ranks amount to: recall at K, mean and median rank, and how sure they are.

METHODS B8. Two readings of mean and median rank exist: over all matching pairs (IMP's, the default
there), and over queries by the best of their matches (of the code of Song and Soleymani 2019 and
those after it). Recall at K goes by the best match in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure and how far it may be off.

    Attributes:
        value: measured; nan where there is nothing to measure.
        low, high: between which the chosen share of resamples lies.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Best:
    """The best-placed match of each query that has one.

    Attributes:
        queries: (q,), int64, ascending.
        ranks: (q,), int64, from 1 on.
    """

    queries: NDArray[np.int64]
    ranks: NDArray[np.int64]

    def found(self, k: int) -> Floats:
        """(q,): 1 where the match is among the first k, else 0; its mean is the recall at k.

        Raises:
            ValueError: k is below 1.
        """
        if k < 1:
            raise ValueError(f"recall at {k}: count at least the first place")
        return (self.ranks <= k).astype(np.float64)


def best_ranks(queries: NDArray[np.int64], ranks: NDArray[np.int64]) -> Best:
    """The best rank of each query.

    Args:
        queries: (p,), the query of each matching pair.
        ranks: (p,), where its match stands for it.
    """
    named, place = np.unique(queries, return_inverse=True)
    best = np.full(len(named), np.iinfo(np.int64).max)
    np.minimum.at(best, place.reshape(-1), ranks)
    return Best(named, best)


def recall(queries: NDArray[np.int64], ranks: NDArray[np.int64], k: int) -> float:
    """Share of the queries with a match among the first k; queries without any match do not count.

    nan without queries. Args and errors as of `best_ranks` and `Best.found`.
    """
    return mean(best_ranks(queries, ranks).found(k))


def mean_rank(queries: NDArray[np.int64], ranks: NDArray[np.int64], best: bool = False) -> float:
    """meanR over all matching pairs, or over queries by their best match; 1 is the least."""
    return mean(best_ranks(queries, ranks).ranks if best else ranks)


def median_rank(queries: NDArray[np.int64], ranks: NDArray[np.int64], best: bool = False) -> float:
    """medR over all matching pairs, or over queries by their best match.

    Between two middle ranks it is the mean of both; by the best match it is rounded down, as the
    code of Song and Soleymani 2019 does.
    """
    if not best:
        return float(np.median(ranks)) if len(ranks) else np.nan
    found = best_ranks(queries, ranks).ranks
    return float(np.floor(np.median(found))) if len(found) else np.nan


def mean(values: NDArray[np.generic]) -> float:
    """The mean, nan of nothing."""
    return float(np.asarray(values, np.float64).mean()) if len(values) else np.nan


@dataclass(frozen=True)
class Resamples:
    """Images drawn with replacement, again and again; all that belongs to an image goes with it.

    Texts of one image are no independent evidence, so they are not drawn one by one. Figures of
    the same resamples belong together: their differences and ratios draw by draw are those of
    paired comparisons.

    Attributes:
        images: how many there are; of each draw as many are drawn.
        draws: how many resamples.
        seed: of the draws.
    """

    images: int
    draws: int = 1000
    seed: int = 0

    def weights(self) -> Iterator[NDArray[np.int64]]:
        """(images,) for each draw: how often each image was drawn."""
        rng = np.random.default_rng(self.seed % 2**64)
        for _ in range(self.draws):
            yield np.bincount(rng.integers(self.images, size=self.images), minlength=self.images)

    def means(self, values: NDArray[np.floating], images: NDArray[np.int64]) -> Floats:
        """The mean in each draw.

        Args:
            values: (n,), one of each query or pair, such as `Best.found`; or (n, c), several.
            images: (n,), the image that each belongs to.

        Returns:
            (draws,) or (draws, c); nan where a draw has nothing that counts.
        """
        table = np.asarray(values, np.float64)
        table = table[:, None] if table.ndim == 1 else table
        sums = np.zeros((self.images, table.shape[1]))
        np.add.at(sums, images, table)
        counts = np.bincount(images, minlength=self.images).astype(np.float64)
        means = np.full((self.draws, table.shape[1]), np.nan)
        for row, weight in zip(means, self.weights(), strict=True):
            if total := float(weight @ counts):
                row[:] = weight @ sums / total
        return means.reshape(self.draws, *np.shape(values)[1:])

    def medians(self, values: NDArray[np.number], images: NDArray[np.int64]) -> Floats:
        """(draws,): the median in each draw, between two middle values their mean; see `means`."""
        order = np.argsort(values, kind="stable")
        ordered, owner = np.asarray(values, np.float64)[order], images[order]
        medians = np.full(self.draws, np.nan)
        for draw, weight in enumerate(self.weights()):
            reached = np.cumsum(weight[owner])
            if len(reached) and (total := int(reached[-1])):
                # The values at places (total + 1) / 2, rounded down and up, of the drawn ones.
                middle = np.searchsorted(reached, [(total + 1) // 2, total // 2 + 1])
                medians[draw] = ordered[middle].mean()
        return medians


def interval(value: float, draws: Floats, level: float = 0.95) -> Interval:
    """A figure with the percentile interval of its draws; nan where no draw has a value.

    Args:
        value: of all images.
        draws: (draws,), of each resample.
        level: the share of draws within the interval.
    """
    there = draws[np.isfinite(draws)]
    if not len(there):
        return Interval(value, np.nan, np.nan)
    edge = (1 - level) / 2
    low, high = np.quantile(there, [edge, 1 - edge])
    return Interval(value, float(low), float(high))


def mean_interval(
    values: Sequence[float] | NDArray[np.floating], images: NDArray[np.int64], resamples: Resamples
) -> Interval:
    """A mean with its 95 % interval over images; args as of `Resamples.means`."""
    table = np.asarray(values, np.float64)
    return interval(mean(table), resamples.means(table, images))
