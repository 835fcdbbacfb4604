"""Every figure of METHODS B8, against what is worked out question by question."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.retrieval.figures import ALL, WAYS, Figure, figures
from engine.retrieval.ranks import Matches, Ranks
from engine.retrieval.recall import Resamples

# Image 0 has texts 0 and 1, image 1 has text 2, image 2 has texts 2 (again) and 3.
MATCHES = Matches(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 2, 2, 3]))
RANKS = Ranks(np.array([2, 1, 4, 3, 6]), np.array([1, 3, 2, 1, 3]))
EASY = np.array([True, False, False, True, False])
CATEGORIES = {"easy": EASY, "hard": ~EASY}
RESAMPLES = Resamples(3, draws=50)

Key = tuple[str, str, str, str]


def values(found: list[Figure]) -> dict[Key, float]:
    return {(each.way, each.category, each.reading, each.name): each.interval.value for each in found}


def test_figures_by_hand() -> None:
    found = figures(MATCHES, RANKS, RESAMPLES, CATEGORIES, at=(1, 3))
    of, (i2t, t2i) = values(found), WAYS
    whole = {each[3]: value for each, value in of.items() if each[:2] == (i2t, ALL)}
    assert whole == {
        "R@1": 1 / 3,
        "R@3": 2 / 3,
        "meanR": 16 / 5,
        "medR": 3,
        "best meanR": 8 / 3,
        "best medR": 3,
        "mAP@R": (1 + 0 + 0) / 3,
        "R-Precision": 1 / 3,
        "mAP": (1 + 1 / 4 + (1 / 3 + 2 / 6) / 2) / 3,
    }
    # Text 2 has two images, at 2 and at 1.
    assert of[t2i, ALL, "natural", "R@1"] == 2 / 4 and of[t2i, ALL, "natural", "meanR"] == 10 / 5
    # Easy: texts 0 and 2. Of all four texts, or of these two.
    assert of[t2i, "easy", "natural", "R@1"] == 1 and of[t2i, "easy", "paper", "R@1"] == 2 / 4
    assert of[t2i, "hard", "natural", "R@3"] == 1 and of[t2i, "hard", "paper", "R@3"] == 3 / 4
    assert of[t2i, "hard", "natural", "medR"] == of[t2i, "hard", "paper", "medR"] == 3
    # A hit must be of the category: image 0 finds its easy text second, though another is first.
    assert of[i2t, "easy", "natural", "R@1"] == of[i2t, "easy", "paper", "R@1"] == 0
    # All texts of the images that have an easy one, or the easy ones alone.
    assert of[i2t, "easy", "paper", "meanR"] == (2 + 1 + 3 + 6) / 4
    assert of[i2t, "easy", "natural", "meanR"] == (2 + 3) / 2
    counts = {each.name: each.count for each in found if (each.way, each.category) == (t2i, ALL)}
    assert counts == dict.fromkeys(whole, 4) | {"meanR": 5, "medR": 5}


def test_intervals_hold_their_values() -> None:
    for each in figures(MATCHES, RANKS, RESAMPLES, CATEGORIES):
        # Rounded down and between two middle ranks a median may lie outside; with three images it does not.
        assert each.interval.low <= each.interval.value <= each.interval.high


@settings(max_examples=40)
@given(st.data())
def test_recalls_grow_and_categories_add_up(data: st.DataObject) -> None:
    images, texts = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 20))
    owners = np.array(data.draw(st.lists(st.integers(0, images - 1), min_size=texts, max_size=texts)))
    ranks = Ranks(*(np.array(data.draw(st.permutations(range(1, texts + 1)))) for _ in range(2)))
    codes = np.array(data.draw(st.lists(st.integers(0, 2), min_size=texts, max_size=texts)))
    categories = {name: codes == code for code, name in enumerate(("easy", "medium", "hard"))}
    found = figures(Matches(owners, np.arange(texts)), ranks, Resamples(images, draws=3), categories)
    of = values(found)
    for way, category, reading, name in of:
        if name == "R@1":
            rising = [of[way, category, reading, f"R@{k}"] for k in (1, 5, 10, 20)]
            assert rising == sorted(rising) or np.isnan(rising).all()
    # With one image a text the paper's recalls of the categories sum to the whole, and so do counts.
    for k in (1, 5, 10, 20):
        parts = [of[WAYS[1], name, "paper", f"R@{k}"] for name in categories]
        assert np.nansum(parts) == pytest.approx(of[WAYS[1], ALL, "natural", f"R@{k}"])
    pairs = [each.count for each in found if each.name == "medR" and each.reading == "natural"]
    assert sum(pairs) == 4 * texts


def test_a_category_without_pairs_has_no_figures() -> None:
    nobody = {"medium": np.zeros(5, np.bool_)}
    for each in figures(MATCHES, RANKS, RESAMPLES, nobody):
        if each.category == "medium" and each.reading == "natural":
            assert np.isnan(each.interval.value) and each.count == 0
        elif each.category == "medium" and each.name == "R@5" and each.way == WAYS[1]:
            assert each.interval.value == 0 and each.count == 4
