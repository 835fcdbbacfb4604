"""Pairwise preference against counting the pairs one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.retrieval.preference import preferences

#: Few similarities, so that there are ties.
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from([-0.5, 0.0, 0.25, 0.2500001])), max_size=40
)


@settings(max_examples=200)
@given(ROWS)
def test_every_pair_of_a_right_and_another_image(rows: list[tuple[int, bool, float]]) -> None:
    texts = np.array([row[0] for row in rows], np.int64)
    right = np.array([row[1] for row in rows], np.bool_)
    scores = np.array([row[2] for row in rows], np.float64)
    found = preferences(texts, right, scores)
    wanted = {}
    for text in sorted(set(texts.tolist())):
        ours = [score for each, mine, score in rows if each == text and mine]
        theirs = [score for each, mine, score in rows if each == text and not mine]
        won = [1.0 if one > other else 0.5 if one == other else 0.0 for one in ours for other in theirs]
        if won:
            wanted[text] = sum(won) / len(won)
    assert found.texts.tolist() == list(wanted)
    np.testing.assert_allclose(found.shares, list(wanted.values()), atol=1e-12)
    score = found.score(20, 3)
    if wanted:
        assert score.value == pytest.approx(np.mean(list(wanted.values())))
        assert score.low <= score.high
    else:
        assert np.isnan([score.value, score.low, score.high]).all()


def test_the_interval_is_of_draws_of_texts() -> None:
    """Two texts, of which one is won: a draw holds none, one or two of it."""
    texts, right = np.array([4, 4, 9, 9, 9]), np.array([True, False, True, False, False])
    found = preferences(texts, right, np.array([0.2, 0.1, 0.1, 0.3, 0.4]))
    assert found.texts.tolist() == [4, 9] and found.shares.tolist() == [1, 0]
    score = found.score(500, 0)
    assert (score.low, score.value, score.high) == (0, 0.5, 1)
