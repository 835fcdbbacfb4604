"""The VQAScore of a set: the mean over its pairs, of all and of each category.

METHODS B9: IMP's Table 11 prints it beside CLIPScore, of all pairs and by category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.categories import Categories
from engine.evaluation.negatives import PAIRS
from engine.evaluation.vqascore import PartScores
from engine.retrieval.figures import ALL, Figure
from engine.retrieval.recall import Resamples, mean_interval

VQASCORE: Final = "VQAScore"


@dataclass(frozen=True)
class Scored:
    """The scored pairs of a set, by image.

    Attributes:
        scores: (m,), 0 to 1.
        owners: (m,), int64, ascending: the image of each.
        categories: of the m pairs.
        images: how many could be scored.
        without: how many could not.
    """

    scores: NDArray[np.float64]
    owners: NDArray[np.int64]
    categories: Categories
    images: int
    without: int


def joined(parts: Sequence[tuple[PartScores, Categories]]) -> Scored:
    """The parts of a set, in order, each with its pairs' categories, as one."""
    owners, begin = [], 0
    for scored, _ in parts:
        owners.append(begin + np.searchsorted(scored.images, scored.samples).astype(np.int64))
        begin += len(scored.images)
    return Scored(
        np.concatenate([np.empty(0), *(scored.scores for scored, _ in parts)]),
        np.concatenate([np.empty(0, np.int64), *owners]),
        Categories.joined([categories for _, categories in parts]),
        begin,
        sum(scored.without for scored, _ in parts),
    )


def score_figures(
    scores: NDArray[np.float64],
    owners: NDArray[np.int64],
    resamples: Resamples,
    categories: Mapping[str, NDArray[np.bool_]],
) -> list[Figure]:
    """`VQAScore` of all pairs, and of each category that has any, with its interval over images.

    Args:
        scores: (m,), of the pairs.
        owners: (m,), their images.
        resamples: of the images.
        categories: (m,), which pairs are of each.
    """
    kinds = {ALL: np.ones(len(scores), np.bool_), **categories}
    return [
        Figure(PAIRS, name, "natural", VQASCORE, mean_interval(scores[rows], owners[rows], resamples), count)
        for name, rows in kinds.items()
        if (count := int(rows.sum()))
    ]
