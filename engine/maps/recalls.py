"""Recalls of several models on several sets of texts, side by side as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from engine.maps.palette import colours_of, hexadecimal
from engine.maps.picture import encode_png
from engine.maps.points import one_line

_SIZE, _DPI = (10.0, 6.0), 160
#: Letters of the legend that fit side by side.
_LINE = 125
#: Of a set's place, how much its models take.
_SPREAD = 0.72
#: Of marks: greys and dashes that no model has.
_MARKS: Final[tuple[tuple[str, Literal["-", "--", ":"]], ...]] = (
    ("#222222", "-"),
    ("#8a8a8a", "--"),
    ("#8a8a8a", ":"),
)


@dataclass(frozen=True)
class Reached:
    """One model's recalls.

    Attributes:
        name: what the legend calls it.
        value: (s,) float64, percent, of each set; nan is left out.
        low, high: (s,) float64, ends of the interval; nan where there is none.

    Raises:
        ValueError: the arrays are not all (s,).
    """

    name: str
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = {np.shape(each) for each in (self.value, self.low, self.high)}
        if len(shapes) > 1 or np.ndim(self.value) != 1:
            raise ValueError(f"{self.name}: value, low and high are {sorted(shapes)}; all must be (s,)")


def draw_recalls(
    sets: Sequence[str], models: Sequence[Reached], marks: Sequence[Reached], title: str, axis: str
) -> bytes:
    """Draw a point with its interval for each model and set; marks are lines across a set's place.

    Args:
        sets: names of the sets of texts, left to right.
        models: a colour for each.
        marks: at most three, such as the model before training; their intervals are not drawn.
        title: one line, plain text.
        axis: what is shown, such as "R@5, text to image (%)".

    Returns:
        A PNG of 1600 x 960 pixels; the same arguments give the same bytes.

    Raises:
        ValueError: a model has other than one figure a set, or there are too many marks.
    """
    for each in (*models, *marks):
        if len(each.value) != len(sets):
            raise ValueError(f"{each.name}: {len(each.value)} figures for {len(sets)} sets")
    if len(marks) > len(_MARKS):
        raise ValueError(f"{len(marks)} marks; at most {len(_MARKS)} can be told apart")
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(one_line(title, 90), fontsize=13, weight="bold", loc="left", parse_math=False)
    _axes(axes, sets, axis)
    colours = hexadecimal(colours_of(np.arange(len(models), dtype=np.int64)))
    places = np.arange(len(sets))
    for mark, (colour, line) in zip(marks, _MARKS, strict=False):
        half = (_SPREAD + 0.1) / 2
        axes.hlines(mark.value, places - half, places + half, colors=colour, linestyles=line, linewidth=1.6)
    for number, (model, colour) in enumerate(zip(models, colours, strict=True)):
        aside = (number - (len(models) - 1) / 2) * _SPREAD / max(len(models), 1)
        # Without an interval a point has no whiskers, instead of none of them being drawn.
        lengths = np.nan_to_num(np.abs([model.value - model.low, model.high - model.value]))
        axes.errorbar(
            places + aside, model.value, lengths, fmt="o", color=colour, markersize=5, elinewidth=1.6
        )
    _legend(figure, [each.name for each in models], colours, [each.name for each in marks])
    return encode_png(figure)


def _axes(axes: Axes, sets: Sequence[str], axis: str) -> None:
    axes.set_xticks(range(len(sets)), [one_line(name, 24) for name in sets], parse_math=False)
    axes.set_xlim(-0.6, max(len(sets), 1) - 0.4)
    axes.set_ylim(0, 102)
    axes.set_ylabel(one_line(axis, 80), parse_math=False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(figure: Figure, models: Sequence[str], colours: Sequence[str], marks: Sequence[str]) -> None:
    lines = [Line2D([], [], color=colour, marker="o", markersize=6, linestyle="") for colour in colours]
    lines += [
        Line2D([], [], color=colour, linestyle=line, linewidth=1.6)
        for _, (colour, line) in zip(marks, _MARKS, strict=False)
    ]
    names = [*models, *marks]
    # Placeholders first: matplotlib leaves out a label that begins with "_", and reads "$" as a formula.
    legend: Legend = figure.legend(
        lines,
        ["model"] * len(names),
        loc="outside lower center",
        ncols=_columns(names),
        frameon=False,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(one_line(name, 40))


def _columns(names: Sequence[str]) -> int:
    """As many as fit beside each other."""
    longest = max((len(one_line(name, 40)) for name in names), default=0)
    return max(1, min(8, len(names), _LINE // (longest + 6)))
