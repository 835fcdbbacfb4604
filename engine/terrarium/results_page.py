"""The page of results: recalls of every method and set, with seeds and intervals, and what was gained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.maps.recalls import Reached
from engine.retrieval.recall import Interval, Resamples, interval, mean
from engine.terrarium.measure import COLUMNS, Hits, SetRanks, Way, hits, over_seeds

#: What fine-tuning is to reach (the ratio of R@5, text to image), and what it may cost in points.
GAIN, COST = 1.5, 2.0
GAINED: Final = ("abstract", "poems", "metaphors")
_READING: Final = (
    "**How to read it.** Figures are percent, the mean over training seeds, with a 95 % interval in brackets "
    "(1,000 resamples of the images, each with all its texts) and ± the standard deviation over seeds. "
    "*literal*: descriptions and sentences that say what can be seen; the five levels: captions of the words "
    "that scenes may evoke; *abstract*: the captions of the last two; *poems* and *metaphors*: texts with "
    "other templates than any caption that was trained on. *knower*: who knows all that is true of a scene, "
    "and counts how much of a text holds; no model can be expected to find much more, since many texts are "
    "true of several scenes. `prefix` sees images at the level of the captions, for poems and metaphors at "
    "the last level, for literal ones without a level. Goals: "
    f"{GAIN:g} times R@5 (text to image) on abstract captions, poems and metaphors, at most {COST:g} points "
    "lost on literal captions."
)
_TABLES: Final[tuple[tuple[Way, int], ...]] = (("t2i", 5), ("i2t", 5), ("t2i", 1), ("i2t", 1))
_WAYS: Final[Mapping[Way, str]] = {"t2i": "text to image", "i2t": "image to text"}


@dataclass(frozen=True)
class Measured:
    """A method's models, one for each training seed.

    Attributes:
        name: of the method.
        seeds: what `measure` says of each model.
        told: what else the page says of it in its table of settings.
    """

    name: str
    seeds: Sequence[Mapping[str, SetRanks]]
    told: str = ""


@dataclass(frozen=True)
class Results:
    """All that the page tells.

    Attributes:
        before: the model that all methods begin with.
        knower: who knows all of the scenes and of the lexicon.
        methods: in the order of the tables.
        images: how many scenes were searched.
        draws: resamples of the images, for the intervals.
    """

    before: Measured
    knower: Measured
    methods: Sequence[Measured]
    images: int
    draws: int = 1000

    @property
    def resamples(self) -> Resamples:
        """The same for all figures, so that they can be compared draw by draw."""
        return Resamples(self.images, self.draws)


def page(results: Results, head: str, picture: str) -> str:
    """The whole page as Markdown.

    Args:
        results: the figures.
        head: what was done, in words; first on the page.
        picture: name of the figure's file beside the page.
    """
    settings = _table(("method", "settings of `finetune`"), [(m.name, m.told) for m in results.methods])
    parts = [head, _READING, f"![R@5 by method and set]({picture})", tables(results)]
    return "\n\n".join([*parts, "## Settings", settings]) + "\n"


def tables(results: Results) -> str:
    """The Markdown of the figures: gains first, then recalls by way and place."""
    parts = ["## What was gained", _gains(results)]
    for way, k in _TABLES:
        parts += [f"## R@{k}, {_WAYS[way]}", _recalls(results, way, k)]
    return "\n\n".join(parts)


def reached(results: Results, measured: Measured, way: Way = "t2i", k: int = 5) -> Reached:
    """A row of the figure: percent, with the intervals of the table."""
    found = [recall_of(results, measured, column, way, k) for column in COLUMNS]
    return Reached(measured.name, *(_column(found, part) for part in ("value", "low", "high")))


def recall_of(results: Results, measured: Measured, column: str, way: Way, k: int) -> Interval:
    """Percent of answered questions, the mean over seeds; the interval is over images."""
    found = _hits(measured, column, way, k)
    draws = results.resamples.means(found.values, found.scenes)
    return interval(100 * mean(found.values), 100 * draws)


def ratio_of(results: Results, measured: Measured, column: str) -> Interval:
    """R@5, text to image, over that of the model before; the interval is of the paired ratio."""
    return _compared(results, measured, column, lambda after, before: after / before)


def cost_of(results: Results, measured: Measured, column: str) -> Interval:
    """Points of R@5, text to image, that are lost to the model before; below 0 they are gained."""
    return _compared(results, measured, column, lambda after, before: 100 * (before - after))


def meets_goals(results: Results, measured: Measured) -> bool:
    """Whether the method gains and costs what is asked for."""
    gains = [ratio_of(results, measured, column).value >= GAIN for column in GAINED]
    return all(gains) and cost_of(results, measured, "literal").value <= COST


_Floats = NDArray[np.float64]


def _compared(
    results: Results, measured: Measured, column: str, figure: Callable[[_Floats, _Floats], _Floats]
) -> Interval:
    value, draws = list[_Floats](), list[_Floats]()
    for each in (measured, results.before):
        found = _hits(each, column, "t2i", 5)
        value.append(np.array([mean(found.values)]))
        draws.append(results.resamples.means(found.values, found.scenes))
    with np.errstate(divide="ignore", invalid="ignore"):
        return interval(float(figure(*value)[0]), figure(*draws))


def _hits(measured: Measured, column: str, way: Way, k: int) -> Hits:
    return over_seeds([hits(ranked, column, way, k) for ranked in measured.seeds])


def _gains(results: Results) -> str:
    head = ("method", *(f"{column}, times" for column in GAINED), "literal, points lost", "goals")
    rows = [
        (
            each.name,
            *(_told(ratio_of(results, each, column), "{:.2f}") for column in GAINED),
            _told(cost_of(results, each, "literal"), "{:.1f}"),
            "met" if meets_goals(results, each) else "missed",
        )
        for each in results.methods
    ]
    return _table(head, rows)


def _recalls(results: Results, way: Way, k: int) -> str:
    rows = [
        (each.name, *_cells(results, each, way, k))
        for each in (results.before, *results.methods, results.knower)
    ]
    return _table(("percent", *COLUMNS), rows)


def _cells(results: Results, measured: Measured, way: Way, k: int) -> Iterator[str]:
    for column in COLUMNS:
        told = _told(recall_of(results, measured, column, way, k), "{:.1f}")
        if len(measured.seeds) > 1:
            each = [100 * mean(hits(ranked, column, way, k).values) for ranked in measured.seeds]
            told += f" ±{np.std(each, ddof=1):.1f}"
        yield told


def _told(found: Interval, form: str) -> str:
    value, low, high = (form.format(part) for part in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def _column(found: Sequence[Interval], part: str) -> _Floats:
    return np.array([getattr(each, part) for each in found], np.float64)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(lines)
