"""The area under the precision-recall curve against scikit-learn's, ties and draws included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from engine.retrieval.auprc import Pairs, auprc, average_precision
from engine.retrieval.recall import Resamples

pair = st.tuples(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]), st.booleans())


@settings(max_examples=200)
@given(st.lists(pair, min_size=1, max_size=30).filter(lambda rows: any(mark for _, mark in rows)))
def test_it_is_scikit_learn_s(rows: list[tuple[float, bool]]) -> None:
    scores, matching = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert average_precision(scores, matching) == pytest.approx(average_precision_score(matching, scores))


def test_infinite_similarities_are_ties_as_others_are() -> None:
    scores, matching = np.array([np.inf, np.inf, -np.inf, -np.inf]), np.array([True, False, True, False])
    assert average_precision(scores, matching) == 0.5
    assert np.isnan(average_precision(np.zeros(0), np.zeros(0, bool)))


def test_draws_weigh_images_as_repeating_their_pairs_does() -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(12, size=90)
    pairs = Pairs(rng.integers(20, size=90) / 20, rng.random(90) < 0.4, images)
    resamples = Resamples(12, draws=50, seed=4)
    found = auprc(pairs, resamples)
    areas = []
    for weight in resamples.weights():
        rows = np.repeat(np.arange(90), weight[images])
        areas.append(average_precision_score(pairs.matching[rows], pairs.scores[rows]))
    assert found.area.value == pytest.approx(average_precision_score(pairs.matching, pairs.scores))
    assert (found.area.low, found.area.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))
    assert found.base_rate == pairs.matching.mean() and found.pairs + found.others == 90


def test_a_model_that_tells_nothing_apart_reaches_the_base_rate() -> None:
    matching = np.arange(10) < 3
    found = auprc(Pairs(np.zeros(10), matching, np.arange(10)), Resamples(10, draws=20))
    assert found.area.value == pytest.approx(found.base_rate) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("scores", "matching", "message"),
    [
        ([1, 2], [True, True], "2 matching and 0 other pairs: both kinds are needed"),
        ([1, 2], [False, False], "0 matching and 2 other"),
        ([], [], "0 matching and 0 other"),
        ([1, np.nan], [True, False], "the similarity of pair 1 is no number"),
    ],
)
def test_what_has_no_area_is_refused(scores: list[float], matching: list[bool], message: str) -> None:
    pairs = Pairs(np.array(scores, np.float64), np.array(matching, bool), np.arange(len(scores)))
    with pytest.raises(ValueError, match=message):
        auprc(pairs, Resamples(2, draws=2))
