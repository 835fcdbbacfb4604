import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from engine.maps.cluster_map import Points, draw_png
from engine.maps.palette import NOISE, colours_of


def blobs(n: int, clusters: int, noise: int = 0) -> Points:
    """Well separated clusters on a grid, and noise between them."""
    rng = np.random.default_rng(0)
    label = np.concatenate([np.arange(n) % clusters, np.full(noise, -1)])
    side = int(np.ceil(clusters**0.5))
    xy = np.stack([label % side, label // side], axis=1) + rng.normal(0, 0.12, (n + noise, 2))
    return Points(xy[:, 0], xy[:, 1], label, np.ones(n + noise, np.float32))


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.size) == ("PNG", (1600, 1200))
    assert not {"Software", "Creation Time", "date"} & set(image.info)
    return np.asarray(image.convert("RGB"), np.int64)


def ink(picture: np.ndarray) -> int:
    return int((picture < 250).any(axis=2).sum())


def share_near(picture: np.ndarray, colour: np.ndarray) -> int:
    """How many pixels have the colour's own direction from white: any opacity of it."""
    away, wanted = 255.0 - picture.reshape(-1, 3), 1.0 - np.asarray(colour)
    away = away[np.linalg.norm(away, axis=1) > 60]
    cosine = away @ wanted / np.linalg.norm(away, axis=1) / np.linalg.norm(wanted)
    return int((cosine > 0.999).sum())


def test_every_cluster_has_its_colour_on_the_map() -> None:
    picture = pixels(draw_png(blobs(600, 4, 60), {}, "title"))
    for colour in [*colours_of(np.arange(4)), np.array(NOISE)]:
        assert share_near(picture, colour) > 300


def test_the_same_map_has_the_same_bytes_in_every_thread() -> None:
    some = blobs(200, 5, 20)
    first = draw_png(some, {1: "dog"}, "title")
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: draw_png(some, {1: "dog"}, "title"), range(4))) == {first}
    assert draw_png(some, {1: "cat"}, "title") != first


def test_no_samples_are_said_so() -> None:
    empty = blobs(0, 1)
    picture = pixels(draw_png(empty, {}, "title"))
    assert ink(picture[500:700, 600:1000]) > 500
    lost = Points(np.full(2, np.nan), np.zeros(2), np.zeros(2, np.int64), np.ones(2, np.float32))
    assert ink(pixels(draw_png(lost, {}, "title"))[500:700, 600:1000]) > 500


@pytest.mark.parametrize("value", [0.0, 1e-12, -3e8])
def test_one_point_is_in_the_middle(value: float) -> None:
    one = Points(np.array([value]), np.array([value]), np.array([-1]), np.ones(1, np.float32))
    rows, columns = np.nonzero((pixels(draw_png(one, {}, ""))[100:] < 250).any(axis=2))
    assert abs(columns.mean() - 800) < 10
    assert abs(rows.mean() + 100 - 640) < 15


def test_both_axes_have_one_scale() -> None:
    """Corners of a square stay a square, though the picture is wider than high."""
    x, y = np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 0, 1])
    square = Points(x, y, np.full(4, -1), np.ones(4, np.float32))
    rows, columns = np.nonzero((pixels(draw_png(square, {}, ""))[100:] < 250).any(axis=2))
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 2


def test_200_clusters_with_names_that_are_no_formulas() -> None:
    names = {label: f"$\\bad{{ {label} <b> & _^, a very long name of a cluster" for label in range(200)}
    picture = pixels(draw_png(blobs(4000, 200), names, "$ not a formula \\frac{"))
    assert ink(picture) > 20_000


def test_pyplot_is_not_used() -> None:
    """Other tests of this process may have imported it."""
    before = "matplotlib.pyplot" in sys.modules
    draw_png(blobs(3, 1), {}, "")
    assert ("matplotlib.pyplot" in sys.modules) == before
