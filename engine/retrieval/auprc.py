"""Telling matching pairs from others by their similarity: the area under the precision-recall curve.

METHODS B8. By average precision, the sum of precision times the step in recall, as scikit-learn's
`average_precision_score` has it; the trapezoid's area is larger. Equal similarities are one step.
A model that guesses reaches the base rate, the share of matching pairs, so that stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.retrieval.recall import Floats, Interval, Resamples, interval


@dataclass(frozen=True)
class Auprc:
    """Of one model on matching and other pairs.

    Attributes:
        area: with its interval.
        base_rate: what guessing reaches.
        pairs: matching ones.
        others: the others.
    """

    area: Interval
    base_rate: float
    pairs: int
    others: int


@dataclass(frozen=True)
class Pairs:
    """Pairs with their similarity.

    Attributes:
        scores: (p,), larger is nearer.
        matching: (p,), bool.
        images: (p,), int64, from 0 on: which image each pair is of.
    """

    scores: NDArray[np.floating]
    matching: NDArray[np.bool_]
    images: NDArray[np.int64]


def auprc(pairs: Pairs, resamples: Resamples, level: float = 0.95) -> Auprc:
    """The area and its interval over draws of images.

    Args:
        pairs: of both kinds; images below `resamples.images`.
        resamples: of the images.
        level: of the interval.

    Raises:
        ValueError: there are only matching or only other pairs, or a similarity is no number.
    """
    count = int(pairs.matching.sum())
    if not 0 < count < len(pairs.matching):
        raise ValueError(
            f"{count} matching and {len(pairs.matching) - count} other pairs: both kinds are needed to tell "
            "them apart"
        )
    if np.isnan(pairs.scores).any():
        raise ValueError(f"the similarity of pair {int(np.isnan(pairs.scores).argmax())} is no number")
    curve = _Curve(pairs)
    areas = np.array([curve.area(weights[curve.images]) for weights in resamples.weights()])
    whole = curve.area(np.ones(len(pairs.scores)))
    return Auprc(
        interval(whole, areas, level), count / len(pairs.matching), count, len(pairs.matching) - count
    )


def average_precision(scores: NDArray[np.floating], matching: NDArray[np.bool_]) -> float:
    """The area alone; nan without a matching pair."""
    pairs = Pairs(scores, matching, np.zeros(len(scores), np.int64))
    return _Curve(pairs).area(np.ones(len(scores)))


class _Curve:
    """The pairs in falling order, cut where the similarity changes; draws only weigh them anew."""

    def __init__(self, pairs: Pairs) -> None:
        order = np.argsort(-pairs.scores, kind="stable")
        scores = pairs.scores[order]
        self.images = pairs.images[order]
        self._matching = pairs.matching[order].astype(np.float64)
        # The last pair of each similarity; compared, since two infinite ones have no difference.
        self._ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])

    def area(self, weights: NDArray[np.number]) -> float:
        """The area where pairs, in this order, count `weights` (p,) times; nan without a matching one."""
        taken = np.cumsum(weights)[self._ends]
        found: Floats = np.cumsum(weights * self._matching)[self._ends]
        if not len(found) or not found[-1]:
            return np.nan
        precision = np.divide(found, taken, out=np.zeros(len(found)), where=taken > 0)
        return float((precision * np.diff(found, prepend=0.0)).sum() / found[-1])
