"""Recall, mean and median rank, and their intervals, against figures worked out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.retrieval.recall import (
    Resamples,
    best_ranks,
    interval,
    mean_interval,
    mean_rank,
    median_rank,
    recall,
)

# Query 0 has its matches at 3 and 1, query 4 at 2, query 7 at 6, 9 and 5.
QUERIES = np.array([7, 0, 4, 7, 0, 7])
RANKS = np.array([6, 3, 2, 9, 1, 5])
NONE = np.empty(0, np.int64)


def test_figures_by_hand() -> None:
    best = best_ranks(QUERIES, RANKS)
    assert best.queries.tolist() == [0, 4, 7] and best.ranks.tolist() == [1, 2, 5]
    assert best.found(2).tolist() == [1, 1, 0]
    assert [recall(QUERIES, RANKS, k) for k in (1, 2, 4, 5)] == [1 / 3, 2 / 3, 2 / 3, 1]
    assert mean_rank(QUERIES, RANKS) == 26 / 6
    assert median_rank(QUERIES, RANKS) == 4  # between 3 and 5
    assert mean_rank(QUERIES, RANKS, best=True) == 8 / 3
    assert median_rank(QUERIES, RANKS, best=True) == 2
    # Two middle ranks: the mean over pairs, rounded down by the best match.
    assert median_rank(np.array([0, 1]), np.array([1, 4])) == 2.5
    assert median_rank(np.array([0, 1]), np.array([1, 4]), best=True) == 2


def test_of_nothing() -> None:
    assert np.isnan(recall(NONE, NONE, 5)) and np.isnan(mean_rank(NONE, NONE))
    assert np.isnan(median_rank(NONE, NONE)) and np.isnan(median_rank(NONE, NONE, best=True))
    found = mean_interval([], NONE, Resamples(4, draws=5))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert np.isnan(Resamples(4, draws=3).medians(NONE, NONE)).all()


def test_recall_at_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="recall at 0"):
        recall(QUERIES, RANKS, 0)


@settings(max_examples=60)
@given(st.data())
def test_recall_never_falls_with_k(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    queries = data.draw(arrays(np.int64, count, elements=st.integers(0, 6)))
    places = data.draw(arrays(np.int64, count, elements=st.integers(1, 40)))
    found = [recall(queries, places, k) for k in (1, 2, 3, 5, 10, 40)]
    assert found == sorted(found) and found[-1] == 1


@settings(max_examples=60)
@given(st.data())
def test_draws_are_means_and_medians_of_drawn_images(data: st.DataObject) -> None:
    images, count = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    values = data.draw(arrays(np.float64, count, elements=st.integers(-3, 3)))
    owners = data.draw(arrays(np.int64, count, elements=st.integers(0, images - 1)))
    resamples = Resamples(images, draws=8, seed=data.draw(st.integers(0, 99)))
    means, medians = resamples.means(values, owners), resamples.medians(values, owners)
    for draw, weight in enumerate(resamples.weights()):
        assert weight.sum() == images
        drawn = np.repeat(values, weight[owners])
        if len(drawn):
            assert means[draw] == pytest.approx(drawn.mean()) and medians[draw] == np.median(drawn)
        else:
            assert np.isnan([means[draw], medians[draw]]).all()


def test_several_columns_share_their_draws() -> None:
    rng = np.random.default_rng(0)
    values, owners = rng.random((40, 3)), np.repeat(np.arange(10), 4)
    together = Resamples(10, draws=20).means(values, owners)
    assert together.shape == (20, 3)
    for column in range(3):
        alone = Resamples(10, draws=20).means(values[:, column], owners)
        np.testing.assert_allclose(alone, together[:, column])


def test_interval_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = mean_interval(values, np.arange(400), Resamples(400, draws=2000))
    error = values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_texts_of_an_image_are_no_independent_evidence() -> None:
    once = np.random.default_rng(2).integers(0, 2, 100).astype(np.float64)
    alone = mean_interval(once, np.arange(100), Resamples(100))
    often = mean_interval(np.repeat(once, 5), np.repeat(np.arange(100), 5), Resamples(100))
    assert (often.low, often.high) == pytest.approx((alone.low, alone.high))


def test_draws_without_a_value_are_left_out() -> None:
    found = interval(0.5, np.array([np.nan, 1.0, np.inf, 3.0]), level=1.0)
    assert (found.value, found.low, found.high) == (0.5, 1.0, 3.0)
    assert np.isnan(interval(0.5, np.array([np.nan])).low)
