"""The pages in a real browser: what is shown, what the pointer is told, and that nothing is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.maps.cluster_map import Hover, Points, write_html
from engine.maps.gallery import Exhibit, thumbnail, write_gallery
from engine.terrarium.render import image
from engine.terrarium.world import scene
from tests.browser import CHROMIUM, opened
from tests.maps.hostile import HOSTILE

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium (apt install chromium)")

#: Everything in a page, also in the shadow trees that bokeh draws in.
ALL = """const all = root => [...root.querySelectorAll('*')].flatMap(
    each => [each, ...(each.shadowRoot ? all(each.shadowRoot) : [])])"""
#: The plot and its scales, in pixels from the page's upper left corner.
PLOT = """const plot = Object.values(Bokeh.index).find(view => view.frame)
    const box = plot.canvas_view.el.getBoundingClientRect()
    const [across, down] = [plot.frame.x_scale, plot.frame.y_scale]"""
IDLE = "window.Bokeh && Bokeh.documents.length == 1 && Bokeh.documents[0].is_idle"


def of(*statements: str, wanted: str) -> str:
    return f"(() => {{{';'.join(statements)}; return {wanted}}})()"


def place(x: float, y: float) -> str:
    return of(PLOT, wanted=f"[box.x + across.compute({x}), box.y + down.compute({y})]")


TOLD = of(
    ALL,
    wanted="all(document).filter(each => each.matches('.bk-tooltip-content')).map(each => each.innerText)",
)
#: Width in pixels of each picture (a scene has 64) that was decoded, 0 of what could not be.
PICTURES = of(ALL, wanted="all(document).filter(each => each.matches('img')).map(each => each.naturalWidth)")
SPAN = of(PLOT, wanted="across.source_range.end - across.source_range.start")


def pictures(count: int) -> list[bytes]:
    return [thumbnail(image(scene(1, index))) for index in range(count)]


@pytest.mark.parametrize("count", [400, 2500], ids=["canvas", "webgl"])
def test_the_map_tells_what_lies_under_the_pointer(tmp_path: Path, count: int) -> None:
    label = np.arange(count) % 4
    centres = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])[label]
    places = np.random.default_rng(0).normal(size=(count, 2)) + centres
    places[7] = 4.5, 4.5  # by itself, between the clusters
    captions: list[Any] = [("a red boat", *HOSTILE[:2])] * count
    hover = Hover([f"key {index}" for index in range(count)], captions, (pictures(8) * count)[:count])
    points = Points(places[:, 0], places[:, 1], label, np.ones(count, np.float32))
    file = tmp_path / "map.html"
    file.write_text(write_html(points, hover, {3: HOSTILE[0]}, "A map"))
    with opened(file, tmp_path / "home") as page:
        page.wait_for(IDLE)
        assert page.value("document.title") == "A map" and page.value(TOLD) == []
        page.point_at(*page.value(place(4.5, 4.5)))
        page.wait_for(f"{TOLD}.length")
        (told,) = page.value(TOLD)
        assert [line.strip() for line in told.split("\n") if line.strip()] == [
            "key 7",
            f"● {HOSTILE[0]}",
            "a red boat",
            *HOSTILE[:2],
        ]
        assert page.value(PICTURES) == [64]
        before = page.value(SPAN)
        page.turn_wheel(600, *page.value(place(4.5, 4.5)))
        page.wait_for(f"{SPAN} < {before / 1.5}")
        assert page.said == []


def test_the_gallery_shows_its_pictures_and_texts(tmp_path: Path) -> None:
    file = tmp_path / "gallery.html"
    exhibits = [Exhibit(text, [text], pictures(3), [text, "two"]) for text in HOSTILE]
    file.write_text(write_gallery(exhibits, "Clusters"))
    with opened(file, tmp_path / "home") as page:
        page.wait_for("document.readyState == 'complete'")
        assert page.value(PICTURES) == [64] * 3 * len(HOSTILE)
        shown = page.value("[...document.querySelectorAll('h2, li')].map(each => each.textContent)")
        assert shown == [text for each in HOSTILE for text in (each, each, "two")]
        assert page.said == []
