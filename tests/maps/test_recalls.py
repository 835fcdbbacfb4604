"""The figure of recalls: every model's colour is in it, and odd names and figures break nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from engine.maps.palette import colours_of
from engine.maps.recalls import Reached, draw_recalls
from tests.maps.hostile import HOSTILE

SETS = ["literal", "abstract", "poems"]


def model(name: str = "full", start: float = 20.0) -> Reached:
    value = start + 10 * np.arange(3.0)
    return Reached(name, value, value - 4, value + 4)


def pixels(png: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.size) == ("PNG", (1600, 960))
    return np.asarray(picture.convert("RGB"), np.int64)


def count(picture: np.ndarray, colour: np.ndarray) -> int:
    return int((np.abs(picture - colour * 255).max(axis=2) < 3).sum())


def test_every_model_has_its_colour() -> None:
    picture = pixels(draw_recalls(SETS, [model(), model("lora", 40)], [], "title", "R@5"))
    first, second, third = colours_of(np.arange(3))
    assert count(picture, first) > 300 and count(picture, second) > 300
    assert count(picture, third) == 0


def test_marks_are_drawn() -> None:
    without = draw_recalls(SETS, [model()], [], "title", "R@5")
    marked = draw_recalls(SETS, [model()], [model("before", 5), model("knower", 60)], "title", "R@5")
    dark = np.array([0x22, 0x22, 0x22]) / 255
    assert count(pixels(marked), dark) > count(pixels(without), dark) + 300


def test_the_same_figures_have_the_same_bytes() -> None:
    assert len({draw_recalls(SETS, [model()], [model("before")], "title", "R@5") for _ in range(2)}) == 1


def test_a_figure_that_is_missing_is_left_out() -> None:
    none = np.full(3, np.nan)
    picture = pixels(draw_recalls(SETS, [Reached("full", none, none, none)], [], "t", "R@5"))
    value = np.array([np.nan, 50, np.nan])
    some = pixels(draw_recalls(SETS, [Reached("full", value, none, none)], [], "t", "R@5"))
    colour = colours_of(np.arange(1))[0]
    assert count(some, colour) > count(picture, colour)


def test_nothing_to_draw() -> None:
    assert (pixels(draw_recalls([], [], [], "title", "R@5")) < 200).any()


def test_names_are_plain_text() -> None:
    drawn = draw_recalls(HOSTILE[:3], [model("_$\\bad{"), model(HOSTILE[3])], [model("_")], "$\\frac{", "$r_")
    assert drawn != draw_recalls(HOSTILE[:3], [model("_$\\bad"), model("b")], [model("_")], "$\\frac{", "$r_")


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="full: 3 figures for 2 sets"):
        draw_recalls(SETS[:2], [model()], [], "t", "R@5")
    with pytest.raises(ValueError, match="4 marks; at most 3"):
        draw_recalls(SETS, [], [model()] * 4, "t", "R@5")
    with pytest.raises(ValueError, match=r"full: value, low and high"):
        Reached("full", np.zeros(3), np.zeros(2), np.zeros(3))
