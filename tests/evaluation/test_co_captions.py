"""Similarities of co-captions: which pairs there are, and what they come to, against loops."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.evaluation.co_captions import cosines, pair_blocks
from engine.evaluation.co_figures import ANSWER, BINS, Tally, answer
from engine.evaluation.co_page import co_captions_picture, co_captions_section

COUNTS = st.lists(st.integers(0, 7), max_size=12)


@settings(max_examples=60)
@given(COUNTS, st.integers(1, 20))
def test_pairs_are_all_of_one_image_each_once(counts: list[int], size: int) -> None:
    owners = np.repeat(np.arange(len(counts)), counts)
    blocks = list(pair_blocks(owners, size))
    found = [pair for first, second in blocks for pair in zip(first, second, strict=True)]
    naive = [(i, j) for i, j in itertools.combinations(range(len(owners)), 2) if owners[i] == owners[j]]
    assert found == naive
    assert all(0 < len(first) <= max(size, 6) for first, _ in blocks)


def test_equal_vectors_have_cosine_1_in_low_precision() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 300))
    stored = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    np.testing.assert_allclose(cosines(stored, stored), 1, atol=1e-12)
    np.testing.assert_allclose(cosines(stored, -stored), -1, atol=1e-12)
    assert cosines(stored, stored).max() <= 1
    assert cosines(np.array([[2.0, 0]]), np.array([[3.0, 3]])) == pytest.approx(0.5**0.5)


def blocks_of(values: list[list[float]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """A block for each image."""
    return [(np.full(len(each), image), np.array(each)) for image, each in enumerate(values)]


SIMILARITIES = st.lists(st.lists(st.floats(-1, 1, width=32), max_size=6), min_size=1, max_size=8).filter(
    lambda images: any(images)
)


@settings(max_examples=60)
@given(SIMILARITIES, st.integers(0, 8))
def test_figures_are_those_of_all_pairs(values: list[list[float]], cut: int) -> None:
    whole = np.concatenate([np.array(each, np.float64) for each in values])
    (row,) = answer(Tally.of(blocks_of(values), len(values)), 50, 3).to_pylist()
    assert (row["pairs"], row["images"]) == (len(whole), sum(bool(each) for each in values))
    assert row["mean"] == pytest.approx(whole.mean(), abs=1e-12)
    assert row["sd"] == pytest.approx(whole.std(), abs=1e-7)
    assert (row["least"], row["most"]) == (whole.min(), whole.max())
    if row["images"] == 1:  # every draw is all of it
        assert (row["low"], row["high"]) == pytest.approx((row["mean"], row["mean"]))
    ordered = np.sort(whole)
    for name, share in (("quartile_1", 0.25), ("median", 0.5), ("quartile_3", 0.75)):
        # The smallest that this share does not exceed, no farther off than a bin is wide.
        nearest = ordered[max(int(np.ceil(share * len(whole))) - 1, 0)]
        assert row[name] == pytest.approx(nearest, abs=2 / BINS + 1e-9)
    assert sum(row["counts"]) == len(whole)
    # Parts that others counted come to the same, to the last bit.
    pieces = [Tally.of(blocks_of(some), max(len(some), 1)) for some in (values[:cut], values[cut:])]
    assert answer(Tally.joined(pieces), 50, 3).to_pylist() == [row]


def test_the_interval_is_of_draws_of_images() -> None:
    values = [[0.1, 0.2, 0.3], [0.9], [0.5, 0.7], [0.4]]
    (row,) = answer(Tally.of(blocks_of(values), 4), 300, 5).to_pylist()
    rng, means = np.random.default_rng(5), []
    for _ in range(300):
        drawn = rng.integers(4, size=4)
        means.append(np.mean([value for image in drawn for value in values[image]]))
    low, high = np.quantile(means, [0.025, 0.975])
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))


def test_duplicates_are_1_and_nothing_deviates() -> None:
    (row,) = answer(Tally.of(blocks_of([[1.0, 1.0, 1.0], [1.0]]), 2), 20, 0).to_pylist()
    names = ("mean", "low", "high", "least", "quartile_1", "median", "quartile_3", "most")
    assert [row[name] for name in names] == [1.0] * 8 and row["sd"] == 0
    assert row["counts"][-1] == 4


def test_similarities_that_cannot_be_told_are_left_out() -> None:
    some = [(np.array([0, 0, 2]), np.array([np.nan, 0.5, np.nan]))]
    (row,) = answer(Tally.of(some, 3), 20, 0).to_pylist()
    assert (row["pairs"], row["images"], row["mean"], row["median"]) == (1, 1, 0.5, 0.5)
    table = answer(Tally.joined([Tally.of([], 4), Tally.of([], 0)]), 20, 0)
    (empty,) = table.to_pylist()
    assert table.schema.equals(ANSWER)
    assert (empty["pairs"], empty["images"], empty["mean"], empty["median"]) == (0, 0, None, None)


def row_of(name: str, encoder: str, values: list[list[float]]) -> dict[str, Any]:
    (row,) = answer(Tally.of(blocks_of(values), max(len(values), 1)), 20, 0).to_pylist()
    return {**row, "set": name, "encoder": encoder}


def test_the_section_tells_figures_and_what_is_not_there() -> None:
    rows = [row_of("coco", "sentence:a|b", [[0.25, 0.75], [0.5]]), row_of("poems", "open_clip:c/d", [])]
    told = co_captions_section(rows, ["co-captions-coco.png"])
    assert "| coco | sentence:a\\|b | 0.5000 [0.5000, 0.5000] | 0.2041 |" in told
    assert "| 3 | 2 |" in told and "| poems | open_clip:c/d | - | - | - | - | - | 0 | 0 |" in told
    assert "In poems no image has two captions that `open_clip:c/d` can compare" in told
    assert "In coco" not in told and "(co-captions-coco.png)" in told
    assert "![" not in co_captions_section(rows, [])


def test_a_picture_has_a_panel_for_each_encoder() -> None:
    rng = np.random.default_rng(0)
    high, low = ([rng.normal(middle, 0.03, 400).clip(-1, 1).tolist()] for middle in (0.8, 0.1))
    one = co_captions_picture("a", [row_of("a", "x", high)])
    both = co_captions_picture("a", [row_of("a", "x", high), row_of("a", "y", low)])
    assert one is not None and both is not None

    def ink(data: bytes) -> np.ndarray:
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        half = pixels.shape[1] // 2
        return np.array([(side < 200).sum() for side in (pixels[200:-120, :half], pixels[200:-120, half:])])

    assert (ink(both) > 500).all() and ink(one)[0] > 500
    assert co_captions_picture("a", [row_of("a", "x", [])]) is None
    for edge in ([[1.0, 1.0]], [[-1.0]], [[-1.0, 1.0]]):
        assert co_captions_picture("a", [row_of("a", "x", edge)]) is not None
    hostile = [row_of("_a$b$", "x" * 200 + "$\\frac{", high)]
    assert co_captions_picture("b$", hostile) == co_captions_picture("b$", hostile)
