"""From which similarity on a model accepts a pair: one threshold of its precision-recall curve.

METHODS B10. The paper takes the "argmax" of the curve, which a curve does not have; four readings are
here, and the largest F1 is the default. But for Youden's J they depend on how many other pairs there
are to a matching one, so on the batch size, which is kept with the threshold. Of equally good
thresholds the largest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.difficulty.histogram import Histogram

#: `f1`: the largest harmonic mean of precision and recall. `break_even`: where the two are nearest.
#: `product`: the largest precision times recall. `youden`: the largest recall minus false-positive rate.
Rule = Literal["f1", "break_even", "product", "youden"]


@dataclass(frozen=True)
class Threshold:
    """Where a model's similarity begins to accept.

    Attributes:
        value: a pair of at least this similarity is accepted.
        rule: by which it was chosen.
        precision, recall: on the calibration pairs, at the threshold.
        pairs: matching pairs that it was chosen on.
        others: other pairs beside them.
    """

    value: float
    rule: Rule
    precision: float
    recall: float
    pairs: int
    others: int


def choose_threshold(histogram: Histogram, rule: Rule = "f1") -> Threshold:
    """The best threshold among the edges of the bins.

    Raises:
        ValueError: there are no matching or no other pairs, or the rule is unknown.
    """
    matching, others = histogram.accepted()
    if rule not in get_args(Rule):
        raise ValueError(f"there is no rule {rule}; write one of {', '.join(get_args(Rule))}")
    if not matching[0] or not others[0]:
        raise ValueError(
            f"{matching[0]} matching and {others[0]} other pairs give no threshold; calibrate on at least "
            "one batch of two pairs"
        )
    recall = matching / matching[0]
    accepted = matching + others
    # Nothing accepted is nothing wrong; no rule prefers it, since its recall is 0.
    precision = np.divide(matching, accepted, out=np.ones(len(matching)), where=accepted > 0)
    goodness = _goodness(rule, precision, recall, others / others[0])
    best = len(goodness) - 1 - int(np.argmax(goodness[::-1]))
    return Threshold(
        float(histogram.thresholds[best]),
        rule,
        float(precision[best]),
        float(recall[best]),
        int(matching[0]),
        int(others[0]),
    )


def _goodness(
    rule: Rule,
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    false_positives: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(bins,), larger is better."""
    match rule:
        case "f1":
            both = precision + recall
            found: NDArray[np.float64] = 2 * precision * recall / np.where(both > 0, both, 1.0)
            return found
        case "product":
            return precision * recall
        case "youden":
            return recall - false_positives
    # Thresholds that accept no matching pair have nothing to balance.
    balance: NDArray[np.float64] = np.where(recall > 0, -np.abs(precision - recall), -np.inf)
    return balance
