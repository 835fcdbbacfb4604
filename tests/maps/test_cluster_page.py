import html
import json
import re

import numpy as np
import pytest

from engine.maps.cluster_map import Hover, Points, write_html
from tests.maps.hostile import CLOSING, HOSTILE, IMG, SCRIPT, Page

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 8


def points(n: int, label: int = 0) -> Points:
    return Points(np.arange(n) * 1.0, np.zeros(n), np.full(n, label), np.ones(n, np.float32))


def page_of(
    n: int, key: str = "key", captions: tuple[str, ...] = (), names: str = "dog", title: str = "t"
) -> str:
    hover = Hover(
        [f"{key}{i}" for i in range(n)], [captions] * n, [JPEG if i % 2 == 0 else None for i in range(n)]
    )
    return write_html(points(n), hover, {0: names}, title)


def document(page: str) -> str:
    """bokeh's JSON as it lies in the page."""
    (found,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)
    return str(found)


def column(page: str, name: str) -> list[str]:
    """A column of the points' table as the browser reads it."""
    tables: list[list[str]] = []

    def visit(value: object) -> None:
        if isinstance(value, dict):
            for pair in value.get("entries", []):
                if isinstance(pair, list) and pair[0] == name and isinstance(pair[1], list):
                    tables.append(pair[1])
            value = list(value.values())
        for inner in value if isinstance(value, list) else []:
            visit(inner)

    visit(json.loads(html.unescape(document(page))))
    (table,) = tables
    return table


def test_what_the_page_holds() -> None:
    page = page_of(3, captions=("a red boat", "two", "three", "four"))
    assert column(page, "key") == ["key0", "key1", "key2"]
    assert column(page, "cluster") == ["dog"] * 3
    assert column(page, "captions") == ["a red boat\ntwo\nthree"] * 3
    kinds = [uri.split(",")[0] for uri in column(page, "thumbnail")]
    assert kinds == ["data:image/jpeg;base64", "data:image/gif;base64", "data:image/jpeg;base64"]
    for tool in ("PanTool", "WheelZoomTool", "BoxZoomTool", "ResetTool", "HoverTool"):
        assert f'"{tool}"' in document(page)


def test_hostile_texts_are_texts() -> None:
    plain = Page(page_of(2))
    for text in HOSTILE:
        source = page_of(2, key=text, captions=(text,), names=text, title=text)
        page = Page(source)
        for tag in {name for name, _ in plain.tags} | {"script", "img", "b"}:
            assert page.count(tag) == plain.count(tag), (tag, text)
        assert page.handlers() == []
        assert column(source, "captions")[0] == text
        assert page.texts.count(text) == 2, "the title of the window and the heading"


def test_bokehs_json_is_escaped() -> None:
    for text in (SCRIPT, IMG, CLOSING):
        json_text = document(page_of(2, key=text, captions=(text,), names=text, title=text))
        assert "<" not in json_text
        assert ">" not in json_text
        assert "&lt;" in json_text


def test_tooltips_escape_every_field() -> None:
    assert "{safe}" not in document(page_of(1))


@pytest.mark.parametrize("n", [0, 1, 2500])
def test_nothing_is_loaded(n: int) -> None:
    page = Page(page_of(n))
    assert page.loaded() == []
    assert page.count("link") == page.count("iframe") == 0
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy)
    assert "http" not in str(policy)


def test_the_page_weighs_what_its_data_weigh() -> None:
    empty, full = len(page_of(0)), len(page_of(1000))
    assert empty < 2_000_000
    assert full - empty < 1.5 * 500 * len(JPEG) + 1000 * 300


def test_points_without_a_place_are_left_out_with_their_texts() -> None:
    some = Points(np.array([0, np.nan, 2]), np.zeros(3), np.array([4, 4, -1]), np.ones(3, np.float32))
    page = write_html(some, Hover(["a", "b", "c"], [[], [], []], [None] * 3), {}, "t")
    assert column(page, "key") == ["c", "a"]
    assert column(page, "cluster") == ["noise", "cluster 4"]


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Hover\.captions: 1 entries for 2 points"):
        write_html(points(2), Hover(["a", "b"], [[]], [None, None]), {}, "t")
