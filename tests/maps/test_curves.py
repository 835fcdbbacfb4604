import io

import numpy as np
import pytest
from PIL import Image

from engine.maps.curves import Band, CurveOf, curve_table, draw_curves
from engine.maps.palette import colours_of

RADII = np.array([0.0, 1, 2, 5, 10, 25, 50, 100])


def band(start: float, step: float) -> Band:
    mean = start + step * np.arange(len(RADII))
    return Band(mean, mean - 0.02, mean + 0.02)


def curve(name: str = "COCO", start: float = 0.8) -> CurveOf:
    cosine = band(start, -0.03)
    for values in (cosine.mean, cosine.low, cosine.high):
        values[0] = np.nan
    return CurveOf(name, RADII, cosine, band(start + 0.2, 0.02))


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.size) == ("PNG", (1600, 1040))
    return np.asarray(image.convert("RGB"), np.int64)


def count(picture: np.ndarray, colour: np.ndarray) -> int:
    return int((np.abs(picture - colour * 255).max(axis=2) < 3).sum())


def test_every_data_set_has_its_colour() -> None:
    picture = pixels(draw_curves([curve(), curve("Flickr30k", 0.6)], "nearest images", "title"))
    first, second, third = colours_of(np.arange(3))
    assert count(picture, first) > 2000
    assert count(picture, second) > 2000
    assert count(picture, third) == 0


def test_the_same_curves_have_the_same_bytes() -> None:
    assert draw_curves([curve()], "radius", "title") == draw_curves([curve()], "radius", "title")


def test_nothing_to_draw() -> None:
    assert (pixels(draw_curves([], "radius", "title")) < 200).any()
    nothing = Band(*(np.full(8, np.nan) for _ in range(3)))
    assert (pixels(draw_curves([CurveOf("empty", RADII, nothing, nothing)], "r", "t")) < 200).any()
    assert curve_table([]) == ""


def test_names_are_no_formulas_and_may_begin_with_an_underscore() -> None:
    picture = draw_curves([curve("_hidden $\\bad{")], "$r_", "$\\frac{")
    assert picture != draw_curves([curve("_other $\\bad{")], "$r_", "$\\frac{")


def test_what_differs_at_the_end_of_a_name_is_drawn() -> None:
    common = "run, original captions, by hf:facebook/dinov2-large and open_clip:ViT"
    first, second = (draw_curves([curve(f"{common}-{x}/openai")], "r", "t") for x in "BL")
    assert first != second


def test_data_sets_with_radii_of_their_own() -> None:
    one = np.array([0.5])
    single = CurveOf("one", one, Band(one, one, one), Band(one, one, one))
    assert count(pixels(draw_curves([curve(), single], "r", "t")), colours_of(np.arange(2))[1]) > 50


def test_the_table() -> None:
    lines = curve_table([curve("COCO <b>\n| x")]).splitlines()
    assert lines[0] == "### COCO &lt;b&gt; | x"
    assert lines[4] == "| 0 | - | 1.000 [0.980, 1.020] |"
    assert lines[5] == "| 1 | 0.770 [0.750, 0.790] | 1.020 [1.000, 1.040] |"
    assert len(lines) == 4 + len(RADII)


def test_notes_stand_below_the_table() -> None:
    plain = curve("COCO")
    told = CurveOf(
        "COCO", RADII, plain.image_cosine, plain.caption_distance, ("only <5>\nimages", "and so on")
    )
    assert curve_table([told]) == curve_table([plain]) + "\nonly &lt;5&gt; images\n\nand so on\n"


def test_a_mean_without_an_interval() -> None:
    one, none = np.array([0.5]), np.array([np.nan])
    table = curve_table([CurveOf("a", np.array([2.5]), Band(one, none, none), Band(none, none, none))])
    assert table.splitlines()[-1] == "| 2.5 | 0.500 [-, -] | - |"


def test_bands_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"COCO: caption_distance\.mean"):
        CurveOf("COCO", RADII, band(0, 0), Band(np.zeros(3), np.zeros(3), np.zeros(3)))
