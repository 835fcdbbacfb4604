"""Other pairs: a caption of another image for each, and what tells them from matching ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from engine.evaluation.negatives import Others, draw_others, pair_figures
from engine.retrieval.recall import Resamples


@settings(max_examples=60)
@given(st.integers(1, 9), st.lists(st.integers(0, 8), max_size=25), st.integers(0, 99))
def test_a_text_of_another_image(images: int, owners: list[int], seed: int) -> None:
    ascending = np.sort(np.array([owner % images for owner in owners], np.int64))
    drawn = draw_others(ascending, images, seed)
    assert drawn.shape == (images,)
    for image, text in enumerate(drawn):
        if text >= 0:
            assert ascending[text] != image
        else:
            assert (ascending == image).all(), "there is a text of another image, and it was not drawn"
    np.testing.assert_array_equal(drawn, draw_others(ascending, images, seed))


def test_every_other_text_has_its_turn() -> None:
    owners = np.array([0, 0, 1, 2, 2, 2])
    drawn = np.array([draw_others(owners, 3, seed) for seed in range(300)])
    for image in range(3):
        counts = np.bincount(drawn[:, image], minlength=6)
        assert not counts[owners == image].any()
        expected = 300 / (owners != image).sum()
        assert (abs(counts[owners != image] - expected) < 5 * np.sqrt(expected)).all()


def test_areas_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(20), 3)
    own, others = rng.normal(1, 1, 60), rng.normal(0, 1, 20)
    others[4] = np.nan
    easy = own > 1
    drawn = Others.drawn(others)
    assert drawn.images.tolist() == [image for image in range(20) if image != 4]
    found = pair_figures(own, owners, drawn, Resamples(20, draws=30), {"easy": easy, "hard": ~easy})
    of = {(each.category, each.name): each for each in found}
    for name, rows in (("all", easy | True), ("easy", easy), ("hard", ~easy)):
        labels = np.repeat([True, False], [rows.sum(), 19])
        scores = np.concatenate([own[rows], others[np.isfinite(others)]])
        area, base = of[name, "AUPRC"], of[name, "base rate"]
        assert area.interval.value == pytest.approx(average_precision_score(labels, scores))
        assert area.interval.low < area.interval.value < area.interval.high
        assert base.interval.value == pytest.approx(labels.mean())
        assert of[name, "CLIPScore"].interval.value == pytest.approx(own[rows].mean())
        assert (area.count, base.count) == (rows.sum(), len(labels))


def test_a_category_without_pairs_and_a_set_without_others() -> None:
    own, owners = np.array([0.5, 0.6]), np.array([0, 1])
    nobody = {"hard": np.zeros(2, np.bool_)}
    found = pair_figures(own, owners, Others.drawn(np.array([0.1, 0.2])), Resamples(2, draws=2), nobody)
    assert {each.category for each in found} == {"all"}
    (alone,) = pair_figures(own, owners, Others.drawn(np.full(2, np.nan)), Resamples(2, draws=2), {})
    assert alone.name == "CLIPScore" and alone.interval.value == pytest.approx(0.55)


def test_several_refused_captions_of_an_image() -> None:
    """Each is a pair of its own, and goes with its image where images are drawn."""
    own, owners = np.array([0.5, 0.3, 0.6]), np.array([0, 0, 1])
    refused = Others(np.array([0.4, 0.1, 0.3, 0.7]), np.array([0, 0, 0, 1]))
    found = pair_figures(own, owners, refused, Resamples(2, draws=40), {})
    of = {each.name: each for each in found}
    labels, scores = np.repeat([True, False], [3, 4]), np.concatenate([own, refused.scores])
    area = of["AUPRC"].interval
    assert area.value == pytest.approx(average_precision_score(labels, scores))
    assert of["base rate"].interval.value == pytest.approx(3 / 7) and of["base rate"].count == 7
    # A draw holds both images, or one of them twice.
    twice = [average_precision_score(labels[rows], scores[rows]) for rows in ([0, 1, 3, 4, 5], [2, 6])]
    assert area.low == pytest.approx(min(twice)) and area.high <= max(*twice, area.value)
