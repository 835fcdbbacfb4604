"""What a model reaches on a set of pairs: all figures of METHODS B8, overall and by category.

Figures of a category go by its own pairs: a match of another category is no hit, and it is in the
gallery like any other item. The denominators of IMP's Table 4 are not the obvious ones, so there are
two readings. `natural`: a question counts for a category that it has a match of. `paper`: from texts
to images every text counts, whatever its category, so that the recalls of the categories add up to
the whole; from images to texts the recalls are the natural ones, and mean and median rank go over
all texts of the images that have one of the category (inferred: the printed ones are nearly flat).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from engine.retrieval.precision import precisions
from engine.retrieval.ranks import Matches, Ranks
from engine.retrieval.recall import Floats, Interval, Resamples, best_ranks, interval, mean, median_rank

Way = Literal["image_to_text", "text_to_image"]
WAYS: Final[tuple[Way, ...]] = ("image_to_text", "text_to_image")
Reading = Literal["natural", "paper"]
#: The category of all pairs.
ALL: Final = "all"
#: Recalls that the papers print.
AT: Final = (1, 5, 10, 20)


@dataclass(frozen=True)
class Figure:
    """One figure of one model on one set.

    Attributes:
        way: what asks for what; `pairs` and `preference` of figures that are of no ranking.
        category: of the pairs it goes by; `ALL` for all of them.
        reading: of its denominator; of `ALL` there is one.
        name: `R@5`, `meanR`, `medR`, `best meanR`, `best medR`, `mAP@R`, `R-Precision` or `mAP`; of
            pairs `AUPRC`, `base rate` or `CLIPScore`, a cosine; `preference`.
        interval: its value, and the 95 % interval of draws of images (of `preference`, of texts). All but
            ranks are 0 to 1.
        count: the questions, or for `meanR` and `medR` the pairs, that it is a mean or median of.
    """

    way: Way | Literal["pairs", "preference"]
    category: str
    reading: Reading
    name: str
    interval: Interval
    count: int


@dataclass(frozen=True)
class _Asked:
    """One way's pairs: who asks, where the match stands, and which image a draw takes them with."""

    questions: NDArray[np.int64]
    ranks: NDArray[np.int64]
    images: NDArray[np.int64]

    def some(self, rows: NDArray[np.bool_]) -> _Asked:
        return _Asked(self.questions[rows], self.ranks[rows], self.images[rows])

    def owners(self, questions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The image of each question: of a text with several, the first among the pairs."""
        named, first = np.unique(self.questions, return_index=True)
        return self.images[first[np.searchsorted(named, questions)]]


def figures(
    matches: Matches,
    ranks: Ranks,
    resamples: Resamples,
    categories: Mapping[str, NDArray[np.bool_]] | None = None,
    at: Sequence[int] = AT,
) -> list[Figure]:
    """All figures both ways, overall and by category.

    Args:
        matches: p pairs.
        ranks: of these pairs.
        resamples: of the images.
        categories: (p,), which pairs are of each category.
        at: the recalls.
    """
    sides = {
        WAYS[0]: _Asked(matches.images, ranks.image_to_text, matches.images),
        WAYS[1]: _Asked(matches.texts, ranks.text_to_image, matches.images),
    }
    found = list[Figure]()
    for way, whole in sides.items():
        found += _figures(way, ALL, "natural", _overall(whole, resamples, at))
        for name, rows in (categories or {}).items():
            own = whole.some(rows)
            natural = _recalls(own, resamples, at) | _placed(own, resamples)
            found += _figures(way, name, "natural", natural)
            if way == "text_to_image":
                paper = _recalls(own, resamples, at, of=whole) | _placed(own, resamples)
            else:
                around = whole.some(np.isin(whole.questions, own.questions))
                paper = _recalls(own, resamples, at) | _placed(around, resamples)
            found += _figures(way, name, "paper", paper)
    return found


_Made = dict[str, tuple[Interval, int]]


def _figures(way: Way, category: str, reading: Reading, made: _Made) -> Iterator[Figure]:
    for name, (value, count) in made.items():
        yield Figure(way, category, reading, name, value, count)


def _overall(asked: _Asked, resamples: Resamples, at: Sequence[int]) -> _Made:
    found, best = precisions(asked.questions, asked.ranks), best_ranks(asked.questions, asked.ranks)
    columns = {"mAP@R": found.at_r, "R-Precision": found.r_precision, "mAP": found.full}
    columns["best meanR"] = best.ranks.astype(np.float64)
    means = _means(columns, asked.owners(best.queries), resamples)
    # The median of the best ranks is rounded down, as the code that defined it does.
    draws = np.floor(resamples.medians(best.ranks, asked.owners(best.queries)))
    middle = interval(median_rank(asked.questions, asked.ranks, best=True), draws)
    made = _recalls(asked, resamples, at) | _placed(asked, resamples)
    return made | means | {"best medR": (middle, len(best.queries))}


def _recalls(asked: _Asked, resamples: Resamples, at: Sequence[int], of: _Asked | None = None) -> _Made:
    """Recalls of the questions, or of all questions of another side, on which those not asked have no hit."""
    best, whole = best_ranks(asked.questions, asked.ranks), of or asked
    questions = np.unique(whole.questions)
    here, columns = np.searchsorted(questions, best.queries), dict[str, Floats]()
    for k in at:
        columns[f"R@{k}"] = np.zeros(len(questions))
        columns[f"R@{k}"][here] = best.found(k)
    return _means(columns, whole.owners(questions), resamples)


def _placed(asked: _Asked, resamples: Resamples) -> _Made:
    """Mean and median rank over all pairs."""
    means = _means({"meanR": asked.ranks.astype(np.float64)}, asked.images, resamples)
    draws = resamples.medians(asked.ranks, asked.images)
    middle = interval(median_rank(asked.questions, asked.ranks), draws)
    return means | {"medR": (middle, len(asked.ranks))}


def _means(columns: Mapping[str, Floats], images: NDArray[np.int64], resamples: Resamples) -> _Made:
    draws = resamples.means(np.stack([*columns.values()], axis=1), images)
    return {
        name: (interval(mean(values), draws[:, column]), len(values))
        for column, (name, values) in enumerate(columns.items())
    }
