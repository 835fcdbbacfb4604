"""The radius curves as a figure and as tables: how images and captions spread around a sample."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from engine.maps.palette import colours_of, hexadecimal
from engine.maps.picture import encode_png
from engine.maps.points import one_line

_SIZE, _DPI = (10.0, 6.5), 160
#: Characters of a line of the legend, and of the longest one of which four stand side by side.
_LINE, _SHORT = 48, 28
_COSINE, _DISTANCE = "image-image cosine", "image-caption distance"


@dataclass(frozen=True)
class Band:
    """A mean with its interval at each radius.

    Attributes:
        mean: (r,) float64; nan where there is no value, which is left out.
        low: (r,) float64, the interval's lower end; nan where there is none.
        high: (r,) float64.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class CurveOf:
    """One data set's curves.

    Attributes:
        name: what the legend calls the data set.
        radii: (r,) float64.
        image_cosine: mean cosine of an image with the images within each radius.
        caption_distance: mean geodesic distance, in radians, of an image from their captions.
        notes: what stands below its table, plain text.

    Raises:
        ValueError: a band's arrays are not (r,).
    """

    name: str
    radii: NDArray[np.float64]
    image_cosine: Band
    caption_distance: Band
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for band in ("image_cosine", "caption_distance"):
            for part in ("mean", "low", "high"):
                shape = np.shape(getattr(getattr(self, band), part))
                if np.ndim(self.radii) != 1 or shape != self.radii.shape:
                    raise ValueError(
                        f"{self.name}: {band}.{part} is {shape} and radii {np.shape(self.radii)}; "
                        "both must be (r,), with one value for each radius"
                    )


def draw_curves(curves: Sequence[CurveOf], radius_name: str, title: str) -> bytes:
    """Draw image-image cosine (left axis, solid) and image-caption distance (right axis, dashed).

    Radii stand at equal steps, in order, whatever their values, so that 0, 1, 2, 5, 10 and 100
    can all be read. The same arguments give the same bytes; threads may draw at once.

    Args:
        curves: one for each data set; without any the picture says so.
        radius_name: what a radius counts, such as "nearest images".
        title: one line, plain text.

    Returns:
        A PNG of 1600 x 1040 pixels.
    """
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
    left = figure.add_subplot()
    left.set_title(one_line(title, 90), fontsize=13, weight="bold", loc="left", parse_math=False)
    if not curves:
        left.set_axis_off()
        left.text(0.5, 0.5, "no data sets", ha="center", va="center", fontsize=20, color="#888888")
        return encode_png(figure)
    right = left.twinx()
    radii = np.unique(np.concatenate([curve.radii for curve in curves]))
    _axes(left, right, radii, radius_name)
    colours = hexadecimal(colours_of(np.arange(len(curves), dtype=np.int64)))
    for curve, colour in zip(curves, colours, strict=True):
        order = np.argsort(curve.radii, kind="stable")
        at = np.searchsorted(radii, curve.radii[order])
        _draw(left, at, curve.image_cosine, order, colour, "-", "o")
        _draw(right, at, curve.caption_distance, order, colour, "--", "s")
    _legend(figure, [curve.name for curve in curves], colours)
    return encode_png(figure)


def curve_table(curves: Sequence[CurveOf]) -> str:
    """The curves as Markdown: for each data set a heading and a table with a row for each radius.

    Values have 3 decimals and their interval in brackets; "-" stands for nan.
    """
    return "\n".join(_table(curve) for curve in curves)


def _table(curve: CurveOf) -> str:
    lines = [
        f"### {html.escape(one_line(curve.name, 200), quote=False)}",
        "",
        f"| radius | {_COSINE} | {_DISTANCE} (rad) |",
        "|---:|---:|---:|",
    ]
    for row in np.argsort(curve.radii, kind="stable").tolist():
        cells = [_cell(band, row) for band in (curve.image_cosine, curve.caption_distance)]
        lines.append(f"| {curve.radii[row]:g} | {cells[0]} | {cells[1]} |")
    for note in curve.notes:
        lines += ["", html.escape(one_line(note, 300), quote=False)]
    return "\n".join(lines) + "\n"


def _cell(band: Band, row: int) -> str:
    if np.isnan(band.mean[row]):
        return "-"
    return f"{_number(band.mean[row])} [{_number(band.low[row])}, {_number(band.high[row])}]"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _axes(left: Axes, right: Axes, radii: NDArray[np.float64], radius_name: str) -> None:
    left.set_xticks(range(len(radii)), [f"{radius:g}" for radius in radii])
    left.set_xlabel(one_line(radius_name, 80), parse_math=False)
    left.set_ylabel(f"mean {_COSINE} (solid)")
    right.set_ylabel("geodesic image-caption distance in radians (dashed)")
    left.grid(axis="both", color="#e6e6e6", linewidth=0.8)
    left.set_axisbelow(True)
    for axes in (left, right):
        axes.spines["top"].set_visible(False)


def _draw(
    axes: Axes, at: NDArray[np.intp], band: Band, order: NDArray[np.intp], colour: str, line: str, marker: str
) -> None:
    mean, low, high = band.mean[order], band.low[order], band.high[order]
    axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(at, mean, line, color=colour, marker=marker, markersize=4.5, linewidth=1.8)


def _label(name: str) -> str:
    """A data set's name in lines; what tells it apart may stand at its end."""
    return "\n".join(textwrap.wrap(one_line(name, 6 * _LINE), _LINE)) or name


def _legend(figure: Figure, names: Sequence[str], colours: Sequence[str]) -> None:
    """Name the data sets by colour and the two quantities by line, below the axes."""
    lines = [Line2D([], [], color=colour, linewidth=5) for colour in colours]
    lines.append(Line2D([], [], color="#444444", linestyle="-", marker="o"))
    lines.append(Line2D([], [], color="#444444", linestyle="--", marker="s"))
    labels = [*(_label(name) for name in names), _COSINE, f"{_DISTANCE} (rad)"]
    columns = min(4 if max(map(len, labels)) <= _SHORT else 2, len(labels))
    # Placeholders first: matplotlib leaves out a label that begins with "_", and reads "$" as a formula.
    blank = ["data set"] * len(labels)
    legend: Legend = figure.legend(lines, blank, loc="outside lower center", ncols=columns, frameon=False)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
