"""Figures over pairs, by category: CLIPScore, and AUPRC against pairs that do not match.

METHODS B8 and B9. CLIPScore is the mean cosine of the matching pairs, as IMP's Table 11 prints it:
without the factor 2.5 of Hessel et al. 2021; of models that compare by something else it is the mean of
that. The other pairs of IMP's AUPRC are 5,000 captions that people refused, one an image; they are not
published. A set that has such captions is compared with them (`negatives`). Of any other each image is
paired with one caption of another image, drawn by the seed, so they are as many. All of them are the
other pairs of every category. The base rate stands beside each figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.retrieval.auprc import Auprc, Pairs, auprc
from engine.retrieval.figures import ALL, Figure
from engine.retrieval.recall import Interval, Resamples, mean_interval

#: What stands in the column `way` of figures over pairs.
PAIRS: Final = "pairs"


@dataclass(frozen=True)
class Others:
    """Pairs of an image and a caption that do not match.

    Attributes:
        scores: (q,), their similarities.
        images: (q,), int64: which image each is of.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.int64]

    @classmethod
    def drawn(cls, scores: NDArray[np.float64]) -> Others:
        """One pair of each image, of `draw_others`; (images,), nan where there is none."""
        there = np.flatnonzero(np.isfinite(scores))
        return cls(scores[there], there)


def draw_others(owners: NDArray[np.int64], images: int, seed: int) -> NDArray[np.int64]:
    """(images,): a text of another image for each; -1 where there is none.

    Args:
        owners: (m,), ascending: the image of each text.
        images: how many there are.
        seed: of the draws.
    """
    starts = np.searchsorted(owners, np.arange(images))
    own = np.searchsorted(owners, np.arange(images), side="right") - starts
    others = len(owners) - own
    drawn = np.random.default_rng(seed % 2**64).integers(np.maximum(others, 1))
    # An image's own texts lie together, and are passed over.
    return np.where(others > 0, drawn + np.where(drawn >= starts, own, 0), -1).astype(np.int64)


def pair_figures(
    own: NDArray[np.float64],
    owners: NDArray[np.int64],
    others: Others,
    resamples: Resamples,
    categories: Mapping[str, NDArray[np.bool_]],
) -> list[Figure]:
    """`CLIPScore`, `AUPRC` and its `base rate` of all pairs, and of each category that has any.

    Args:
        own: (m,), similarities of the matching pairs.
        owners: (m,), their images.
        others: pairs that do not match.
        resamples: of the images.
        categories: (m,), which pairs are of each.
    """
    found = list[Figure]()
    for name, rows in {ALL: np.ones(len(own), np.bool_), **categories}.items():
        if not rows.any():
            continue
        score = mean_interval(own[rows], owners[rows], resamples)
        found.append(Figure(PAIRS, name, "natural", "CLIPScore", score, int(rows.sum())))
        if not len(others.scores):
            continue
        pairs = Pairs(
            np.concatenate([own[rows], others.scores]),
            np.repeat([True, False], [rows.sum(), len(others.scores)]),
            np.concatenate([owners[rows], others.images]),
        )
        found += _figures(name, auprc(pairs, resamples))
    return found


def _figures(category: str, made: Auprc) -> list[Figure]:
    base = Interval(made.base_rate, np.nan, np.nan)
    return [
        Figure(PAIRS, category, "natural", "AUPRC", made.area, made.pairs),
        Figure(PAIRS, category, "natural", "base rate", base, made.pairs + made.others),
    ]
