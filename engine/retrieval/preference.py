"""Pairwise preference: of two images of a text, does the model find the right one nearer?

METHODS A8, task 3: metaphors with an image made from the metaphor alone and one made from a reasoned
description of it; the score is the share of texts that are closer to the latter. Where a text has
several images of a side, all pairs of a right and another image count alike. Equal similarities
count one half, so a model that cannot tell images apart reaches one half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.retrieval.recall import Interval, Resamples, mean_interval

#: What stands in the columns `way` and `figure`.
PREFERENCE: Final = "preference"


@dataclass(frozen=True)
class Preferences:
    """The texts that have a pair of images.

    Attributes:
        texts: (t,), int64, ascending.
        shares: (t,), float64: of its pairs, in how many the right image is nearer.
    """

    texts: NDArray[np.int64]
    shares: NDArray[np.float64]

    def score(self, draws: int, seed: int) -> Interval:
        """The mean over texts, with the 95 % interval of draws of texts; nan without any."""
        if not len(self.texts):
            return Interval(np.nan, np.nan, np.nan)
        resamples = Resamples(len(self.texts), draws, seed)
        return mean_interval(self.shares, np.arange(len(self.texts)), resamples)


def preferences(
    texts: NDArray[np.int64], right: NDArray[np.bool_], scores: NDArray[np.float64]
) -> Preferences:
    """The preference of each text that has both a right image and another one.

    Args:
        texts: (p,), the text of each pair of an image and a text.
        right: (p,), whether its image is a right one.
        scores: (p,), their similarities; larger is nearer.
    """
    order = np.lexsort((scores, texts))
    named, which = np.unique(texts[order], return_inverse=True)
    which, scores = which.reshape(-1), scores[order]
    rising = (which[1:] != which[:-1]) | (scores[1:] != scores[:-1])
    # Equal similarities of a text are one step.
    step = np.cumsum(np.append(False, rising)[: len(scores)])
    ours, theirs = right[order].astype(np.float64), (~right[order]).astype(np.float64)
    equal, others = np.bincount(step, theirs), np.bincount(which, theirs, len(named))
    # How many others of its text lie below each pair, and how many are equal.
    below = (np.cumsum(equal) - equal)[step] - (np.cumsum(others) - others)[which]
    won = np.bincount(which, ours * (below + equal[step] / 2), len(named))
    pairs = np.bincount(which, ours, len(named)) * others
    there = pairs > 0
    return Preferences(named[there], won[there] / pairs[there])
