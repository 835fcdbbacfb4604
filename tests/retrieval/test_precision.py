"""Average precision, mAP@R and R-Precision out of ranks, against whole sorted lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from engine.retrieval.precision import precisions


def placed(marks: list[list[bool]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Queries and ranks of the matches; each row is a query's list, the nearest item first."""
    queries, places = np.nonzero(np.array(marks, bool).reshape(len(marks), -1))
    return queries.astype(np.int64), places.astype(np.int64) + 1


def naive(row: list[bool]) -> tuple[float, float, float]:
    """By the definitions: full average precision, mAP@R, R-Precision."""
    places = [place for place, mark in enumerate(row, 1) if mark]
    count = len(places)
    precision = {place: sum(row[:place]) / place for place in places}
    return (
        sum(precision.values()) / count,
        sum(value for place, value in precision.items() if place <= count) / count,
        sum(row[:count]) / count,
    )


lists = st.integers(1, 12).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=6)
)


@settings(max_examples=200)
@given(lists, st.randoms())
def test_they_are_those_of_the_definitions(marks: list[list[bool]], random: object) -> None:
    queries, ranks = placed(marks)
    shuffled = np.random.default_rng(random.randrange(2**32)).permutation(len(queries))  # type: ignore[attr-defined]
    found = precisions(queries[shuffled], ranks[shuffled])
    asked = [number for number, row in enumerate(marks) if any(row)]
    assert found.queries.tolist() == asked
    assert found.matches.tolist() == [sum(marks[number]) for number in asked]
    wanted = np.array([naive(marks[number]) for number in asked]).reshape(-1, 3)
    for column, values in enumerate((found.full, found.at_r, found.r_precision)):
        np.testing.assert_allclose(values, wanted[:, column], rtol=1e-12)


def test_the_full_one_is_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    scores, marks = rng.normal(size=(30, 200)), rng.random((30, 200)) < 0.04
    marks[:, 7] = True
    order = np.argsort(-scores, axis=1)
    queries, ranks = placed(np.take_along_axis(marks, order, 1).tolist())
    wanted = [average_precision_score(marks[row], scores[row]) for row in range(30)]
    np.testing.assert_allclose(precisions(queries, ranks).full, wanted, rtol=1e-12)


def test_with_one_match_it_is_the_reciprocal_rank_and_recall_at_one() -> None:
    found = precisions(np.arange(4), np.array([1, 2, 4, 1]))
    assert found.full.tolist() == [1, 0.5, 0.25, 1]
    assert found.at_r.tolist() == found.r_precision.tolist() == [1, 0, 0, 1]


def test_nothing_and_everything() -> None:
    assert precisions(np.zeros(0, np.int64), np.zeros(0, np.int64)).full.shape == (0,)
    whole = precisions(np.zeros(9, np.int64), np.arange(1, 10))
    assert (whole.full[0], whole.at_r[0], whole.r_precision[0]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("ranks", "message"), [([0, 1], "the first place is 1"), ([3, 3], "two matches of query 5 have rank 3")]
)
def test_what_is_no_ranking_is_refused(ranks: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        precisions(np.array([5, 5]), np.array(ranks))
