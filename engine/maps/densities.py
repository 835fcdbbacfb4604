"""Densities of similarities: how far apart matching and other pairs lie, a panel for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from engine.maps.palette import colours_of, hexadecimal
from engine.maps.picture import encode_png
from engine.maps.points import one_line

_DPI: Final = 160
#: Of one panel, inches; and how many stand in a row.
_WIDTH, _HEIGHT, _ROW = 4.6, 2.9, 2
#: Of kinds that have a colour of their own everywhere.
_COLOURS: Final = {
    "all": "#222222",
    "others": "#9a9a9a",
    "easy": "#63a35c",
    "medium": "#e0a100",
    "hard": "#b5473c",
}


@dataclass(frozen=True)
class Densities:
    """One model's similarities.

    Attributes:
        name: the panel's title.
        edges: (b + 1,), ascending, of the bins.
        counts: (b,) for each kind of pairs, by its name.
        measure: what the axis is called.

    Raises:
        ValueError: counts are not (b,).
    """

    name: str
    edges: NDArray[np.float64]
    counts: Mapping[str, NDArray[np.int64]]
    measure: str = "cosine"

    def __post_init__(self) -> None:
        for kind, count in self.counts.items():
            if np.shape(count) != (len(self.edges) - 1,):
                raise ValueError(f"{self.name}: {np.shape(count)} counts of {kind}, {len(self.edges)} edges")


def draw_densities(panels: Sequence[Densities], title: str) -> bytes:
    """Draw the density of each kind of pairs, each with area 1, so that rare kinds are seen, too.

    Args:
        panels: at least one.
        title: one line, plain text.

    Returns:
        A PNG; the same arguments give the same bytes.

    Raises:
        ValueError: there is no panel.
    """
    if not panels:
        raise ValueError("there is nothing to draw")
    columns = min(len(panels), _ROW)
    rows = -(-len(panels) // columns)
    size = (max(columns, 2) * _WIDTH, rows * _HEIGHT + 0.9)
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    figure.suptitle(one_line(title, 80), fontsize=13, weight="bold", parse_math=False)
    kinds = list(dict.fromkeys(kind for panel in panels for kind in panel.counts))
    spare = hexadecimal(colours_of(np.arange(len(kinds), dtype=np.int64)))
    colours = {kind: _COLOURS.get(kind, colour) for kind, colour in zip(kinds, spare, strict=True)}
    for number, panel in enumerate(panels):
        _panel(figure.add_subplot(rows, columns, number + 1), panel, colours)
    lines = [Line2D([], [], color=colours[kind], linewidth=2) for kind in kinds]
    legend = figure.legend(lines, ["kind"] * len(kinds), loc="outside lower center", ncols=6, frameon=False)
    # Placeholders first: matplotlib leaves out a label that begins with "_", and reads "$" as a formula.
    for text, kind in zip(legend.get_texts(), kinds, strict=True):
        text.set_parse_math(False)
        text.set_text(one_line(kind, 24))
    return encode_png(figure)


def _panel(axes: Axes, panel: Densities, colours: Mapping[str, str]) -> None:
    axes.set_title(one_line(panel.name, 46), fontsize=10, loc="left", parse_math=False)
    axes.set_xlabel(panel.measure)
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for kind, count in panel.counts.items():
        if count.sum():
            style = "--" if kind == "others" else "-"
            density, edges = _density(count, panel.edges)
            axes.stairs(density, edges, color=colours[kind], linestyle=style, linewidth=1.5)
    axes.set_ylim(bottom=0)


def _density(
    count: NDArray[np.int64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The density and the edges of its bins: few pairs fill few bins.

    They are joined until about 2 n^(1/3) of them span the n pairs (Rice's rule).
    """
    there, total = np.flatnonzero(count), int(count.sum())
    joined = max(1, round((there[-1] - there[0] + 1) / (2 * total ** (1 / 3))))
    starts = np.arange(0, len(count), joined)
    edges = np.append(edges[starts], edges[-1])
    return np.add.reduceat(count, starts) / (total * np.diff(edges)), edges
