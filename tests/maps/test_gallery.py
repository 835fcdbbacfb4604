import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from engine.maps.gallery import Exhibit, thumbnail, write_gallery
from tests.maps.hostile import HOSTILE, Page

DATA = Path(__file__).parents[1] / "data"


def test_a_thumbnail_of_each_kind_of_picture() -> None:
    for path in sorted(DATA.glob("*.*g")):
        image = Image.open(path)
        size = image.size
        small = Image.open(io.BytesIO(thumbnail(image, 64)))
        assert (small.format, small.mode, max(small.size)) == ("JPEG", "RGB", 64)
        assert image.size == size
        assert small.size[0] / small.size[1] == pytest.approx(size[0] / size[1], rel=0.05)


def test_a_small_picture_keeps_its_size() -> None:
    assert Image.open(io.BytesIO(thumbnail(Image.new("RGBA", (20, 10))))).size == (20, 10)


def test_a_side_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="side: 0"):
        thumbnail(Image.new("RGB", (4, 4)), 0)


def test_what_the_page_holds() -> None:
    pictures = [thumbnail(Image.new("RGB", (30, 30), colour)) for colour in ("red", "blue")]
    page = Page(write_gallery([Exhibit("A", ["7 images"], pictures, ["a dog", "a cat"])] * 2, "Title"))
    assert (page.count("img"), page.count("li"), page.count("section")) == (4, 4, 2)
    sources = [str(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    assert base64.b64decode(sources[1].split(",")[1]) == pictures[1]
    assert page.texts.count("7 images") == 2
    assert page.loaded() == []
    assert page.count("script") == 0


def test_hostile_texts_are_texts() -> None:
    for text in HOSTILE:
        page = Page(write_gallery([Exhibit(text, [text], [], [text])], text))
        assert {tag for tag, _ in page.tags} <= set(
            "html head meta title style body h1 section h2 p ul li".split()
        )
        assert page.texts.count(text) == 5
        assert page.handlers() == []


def test_no_exhibits() -> None:
    assert "no samples" in write_gallery([], "Title")
