"""The map of a data set's clusters as a picture; `write_html` of the same map is in cluster_page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation

from engine.maps.cluster_page import Hover, write_html
from engine.maps.labels import Box, spread
from engine.maps.palette import colours_of, ink_of
from engine.maps.picture import encode_png
from engine.maps.points import Name, Points, largest, one_line, summary

__all__ = ["Hover", "Points", "draw_png", "write_html"]

#: Inches, and dots to the inch: 1600 x 1200 pixels.
_SIZE, _DPI = (16.0, 12.0), 100
#: Left, bottom, width and height of the map's share of the figure; the title is above it.
_PLACE = (0.015, 0.015, 0.97, 0.905)


def draw_png(points: Points, names: Mapping[int, str], title: str) -> bytes:
    """Draw all points as a scatter map with the names of the largest clusters on it.

    The same arguments give the same bytes. Noise is grey and lies below; fainter points belong
    less surely to their cluster. No display and no state of pyplot is used, so threads may draw
    at once.

    Args:
        points: n samples, up to millions; without any the picture says so.
        names: cluster label to name, such as "red boat, anchor".
        title: one line, plain text.

    Returns:
        A PNG of 1600 x 1200 pixels.
    """
    shown = points.take(points.order())
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes(_PLACE)
    axes.set_axis_off()
    _head(figure, title, summary(points))
    if len(shown):
        _fit(axes, shown)
        _scatter(axes, shown)
        _write_names(axes, canvas, largest(shown, names))
    else:
        axes.text(0.5, 0.5, "no samples", ha="center", va="center", fontsize=28, color="#888888")
    return encode_png(figure)


def _head(figure: Figure, title: str, below: str) -> None:
    # A dollar sign is a dollar sign: these texts are not formulas.
    figure.text(0.02, 0.962, one_line(title, 100), fontsize=20, weight="bold", parse_math=False)
    figure.text(0.02, 0.934, below, fontsize=13, color="#666666", parse_math=False)


def _fit(axes: Axes, points: Points) -> None:
    """Set limits that show every point with one scale for both axes and a margin around."""
    box = axes.get_window_extent()
    ranges = [(float(v.min()), float(v.max())) for v in (points.x, points.y)]
    spans = [high - low for low, high in ranges]
    scale = 1.06 * max(spans[0] / box.width, spans[1] / box.height) or 2.0 / box.height
    halves = scale * box.width / 2, scale * box.height / 2
    middles = [(low + high) / 2 for low, high in ranges]
    axes.set_xlim(middles[0] - halves[0], middles[0] + halves[0])
    axes.set_ylim(middles[1] - halves[1], middles[1] + halves[1])


def _scatter(axes: Axes, points: Points) -> None:
    """Draw the points: the more there are, the smaller and the more transparent."""
    n = len(points)
    area = float(np.clip(60 * (100 / n) ** 0.46, 0.5, 60))
    opacity = float(np.clip(1.05 - 0.11 * np.log10(n), 0.3, 0.9))
    colours = np.column_stack([colours_of(points.label), opacity * points.certainty()])
    axes.scatter(points.x, points.y, s=area, c=colours, linewidths=0, rasterized=True)


def _write_names(axes: Axes, canvas: FigureCanvasAgg, names: list[Name]) -> None:
    """Write each name at its cluster, or near to it with a line back to it."""
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    written = [_write_name(axes, name) for name in names]
    extents = [text.get_window_extent(renderer) for text in written]
    frame = axes.get_window_extent()
    boxes = [Box(*map(float, extent.extents)) for extent in extents]
    for text, box, wish in zip(written, spread(boxes, Box(*frame.extents)), boxes, strict=True):
        text.set_position(((box.left + box.right) / 2, (box.bottom + box.top) / 2))
        # A name that still covers its place needs no line.
        if box.overlap(wish) and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)


def _write_name(axes: Axes, name: Name) -> Annotation:
    at = axes.transData.transform((name.x, name.y))
    ink = ink_of(name.label)
    text = axes.annotate(
        _wrapped(name.text),
        (name.x, name.y),
        (float(at[0]), float(at[1])),
        textcoords="figure pixels",
        ha="center",
        va="center",
        fontsize=12,
        weight="bold",
        color=ink,
        parse_math=False,
        path_effects=[withStroke(linewidth=3.5, foreground="white")],
        arrowprops={"arrowstyle": "-", "color": ink, "linewidth": 0.9, "shrinkA": 1, "shrinkB": 0},
    )
    return text


def _wrapped(text: str) -> str:
    """The text on as few lines of 24 characters as it needs, and those about equally long."""
    lines = textwrap.wrap(text, 24)
    widths = range(len(text) // max(len(lines), 1), 24)
    tries = (textwrap.wrap(text, max(width, 1)) for width in widths)
    return "\n".join(next((even for even in tries if len(even) == len(lines)), lines))
