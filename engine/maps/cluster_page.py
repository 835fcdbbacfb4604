"""The map of a data set's clusters as one HTML file that needs no network: zoom, pan, and look at samples.

Keys, captions, names and the title come from anywhere, so none of them may become markup. Three
escapes see to it: bokeh escapes `& < >` of the JSON that it writes into the page, its tooltips escape
each `@field` (never write `@field{safe}` here), and the template's `e` filter escapes the title.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.embed import file_html
from bokeh.models import BoxZoomTool, ColumnDataSource, HoverTool, PanTool, ResetTool, Text, WheelZoomTool
from bokeh.plotting import figure
from bokeh.resources import INLINE

from engine.maps.palette import colours_of, hexadecimal, ink_of
from engine.maps.points import Points, largest, name_of, one_line, summary

#: From here on a graphics card draws; a browser without one falls back by itself.
_MANY = 2000
_CAPTIONS, _CAPTION_WIDTH = 3, 160
#: One transparent dot: the grey ground of the tooltip shows instead of a picture.
_NO_PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="

_TOOLTIP = """
<div style="display:flex;gap:8px;width:320px;margin-bottom:6px;font:12px sans-serif">
  <div style="flex:none;width:96px">
    <img src="@thumbnail" alt="" style="max-width:96px;min-width:32px;min-height:32px;background:#ddd">
  </div>
  <div style="overflow-wrap:anywhere">
    <div style="font-weight:bold">@key</div>
    <div><span style="color:@colour">&#9679;</span> @cluster</div>
    <div style="white-space:pre-line">@captions</div>
  </div>
</div>
"""

#: How names are written.
_LETTERS: dict[str, Any] = {
    "text": "text",
    "text_align": "center",
    "text_baseline": "middle",
    "text_font_size": "13px",
    "text_font_style": "bold",
}

#: The policy forbids every request: even a page that somebody tampers with loads nothing from anywhere.
_TEMPLATE = """
{% block preamble %}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<style>
  body { font-family: sans-serif; }
  header { height: 58px; padding: 12px 20px 0; overflow: hidden; white-space: nowrap; }
  h1 { font-size: 20px; margin: 0; overflow: hidden; text-overflow: ellipsis; }
  header p { color: #666; font-size: 14px; margin: 4px 0; }
  main { height: calc(100vh - 78px); }
</style>
{% endblock %}
{% block contents %}
<header><h1>{{ heading | e }}</h1><p>{{ below | e }}</p></header>
<main>{{ super() }}</main>
{% endblock %}
"""


@dataclass(frozen=True)
class Hover:
    """What the page shows of a sample under the pointer; one entry of each for every point.

    Attributes:
        keys: the samples' original keys.
        captions: any number for each; the first few are shown.
        thumbnails: JPEG bytes; None where the image cannot be read.
    """

    keys: Sequence[str]
    captions: Sequence[Sequence[str]]
    thumbnails: Sequence[bytes | None]


def write_html(points: Points, hover: Hover, names: Mapping[int, str], title: str) -> str:
    """Write the map as a page in which one can pan, zoom and look at samples.

    Args:
        points: n samples; what the page weighs is about 1.5 MB and 1.4 times their thumbnails.
        hover: n entries each.
        names: cluster label to name.
        title: one line, plain text.

    Returns:
        A whole HTML document that loads nothing from anywhere.

    Raises:
        ValueError: `hover` has more or fewer entries than there are points.
    """
    _check(points, hover)
    rows = points.order()
    shown = points.take(rows)
    plot = _plot(len(shown))
    source = ColumnDataSource(_columns(shown, hover, rows.tolist(), names))
    size = float(np.clip(9 * (1000 / max(len(shown), 1)) ** 0.25, 2.5, 12))
    dots = plot.scatter(
        "x", "y", source=source, size=size, fill_color="colour", fill_alpha="opacity", line_color=None
    )
    plot.add_tools(HoverTool(renderers=[dots], tooltips=_TOOLTIP, limit=3))
    _write_names(plot, shown, names)
    heading = {"heading": one_line(title, 200), "below": summary(points)}
    return file_html(plot, INLINE, heading["heading"], template=_TEMPLATE, template_variables=heading)


def _check(points: Points, hover: Hover) -> None:
    for name in ("keys", "captions", "thumbnails"):
        count = len(getattr(hover, name))
        if count != len(points):
            raise ValueError(f"Hover.{name}: {count} entries for {len(points)} points; give one for each")


def _plot(n: int) -> figure:
    wheel = WheelZoomTool()
    plot = figure(
        tools=[PanTool(), wheel, BoxZoomTool(match_aspect=True), ResetTool()],
        match_aspect=True,
        sizing_mode="stretch_both",
        output_backend="webgl" if n > _MANY else "canvas",
        toolbar_location="right",
    )
    plot.toolbar.active_scroll = wheel
    plot.toolbar.logo = None
    plot.axis.visible = False
    plot.grid.visible = False
    plot.outline_line_color = None
    return plot


def _columns(points: Points, hover: Hover, rows: Sequence[int], names: Mapping[int, str]) -> dict[str, Any]:
    """The columns of the page's table, one row for each point that is shown."""
    return {
        # Half the bytes of float64, and far finer than any screen.
        "x": np.asarray(points.x, np.float32),
        "y": np.asarray(points.y, np.float32),
        "opacity": np.asarray(0.85 * points.certainty(), np.float32),
        "colour": hexadecimal(colours_of(points.label)),
        "cluster": [name_of(int(label), names) for label in points.label],
        "key": [one_line(hover.keys[row], _CAPTION_WIDTH) for row in rows],
        "captions": [_listed(hover.captions[row]) for row in rows],
        "thumbnail": [_data_uri(hover.thumbnails[row]) for row in rows],
    }


def _listed(captions: Sequence[str]) -> str:
    return "\n".join(one_line(caption, _CAPTION_WIDTH) for caption in captions[:_CAPTIONS])


def _data_uri(picture: bytes | None) -> str:
    if picture is None:
        return _NO_PICTURE
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")


def _write_names(plot: figure, points: Points, names: Mapping[int, str]) -> None:
    written = largest(points, names)
    table: dict[str, Any] = {
        "x": [name.x for name in written],
        "y": [name.y for name in written],
        "text": [name.text for name in written],
        "ink": [ink_of(name.label) for name in written],
    }
    source = ColumnDataSource(table)
    # Two layers: the browser draws an outline over the letters, so one glyph would hide its own ink.
    halo = Text(text_color="white", text_outline_color="white", text_outline_width=4, **_LETTERS)
    plot.add_glyph(source, halo)
    plot.add_glyph(source, Text(text_color="ink", **_LETTERS))
