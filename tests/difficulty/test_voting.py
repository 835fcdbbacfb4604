"""Votes to categories, and kappa against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from engine.difficulty.agreement import kappa, robustness
from engine.difficulty.voting import EASY, HARD, MEDIUM, Quorum, TieBreaker, Unanimity, VotingRule, categorize


def votes(*rows: str) -> np.ndarray:
    return np.array([[mark == "+" for mark in row] for row in rows])


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (Unanimity(), [EASY, MEDIUM, MEDIUM, MEDIUM, MEDIUM, HARD]),
        (Quorum(easy=4, hard=1), [EASY, EASY, MEDIUM, MEDIUM, HARD, HARD]),
        (Quorum(easy=1, hard=0), [EASY, EASY, EASY, EASY, EASY, HARD]),
        # Four vote and the fifth decides what they are split on.
        (TieBreaker(), [EASY, EASY, EASY, HARD, HARD, HARD]),
    ],
)
def test_rules(rule: VotingRule, wanted: list[int]) -> None:
    found = categorize(votes("+++++", "++++-", "++--+", "+-+--", "----+", "-----"), rule)
    assert found.tolist() == wanted


def test_a_majority_that_is_none_of_these_is_medium() -> None:
    assert categorize(votes("+++-+", "+++--", "+---+"), TieBreaker()).tolist() == [MEDIUM] * 3


@pytest.mark.parametrize(
    ("rule", "voters", "message"),
    [
        (Unanimity(), 0, "nobody votes"),
        (Quorum(easy=6, hard=1), 5, "does not fit 5 voters"),
        (Quorum(easy=2, hard=2), 5, "0 <= hard < easy <= 5"),
        (TieBreaker(), 4, "an even number of others, not of 3"),
        (TieBreaker(), 1, "not of 0"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rule: VotingRule, voters: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        categorize(np.zeros((3, voters), bool), rule)


codes = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


@settings(max_examples=200)
@given(codes, st.booleans())
def test_kappa_is_scikit_learn_s(rows: list[tuple[int, int]], linear: bool) -> None:
    one, other = np.array(rows).T
    found = kappa(one, other, linear)
    if len(set(one)) == 1 and set(one) == set(other):
        assert found == 1  # scikit-learn divides by zero
        return
    wanted = cohen_kappa_score(one, other, labels=[0, 1, 2], weights="linear" if linear else None)
    assert found == pytest.approx(wanted, abs=1e-12)


def test_kappa_of_nothing_is_no_number() -> None:
    none = np.zeros(0, np.int64)
    assert np.isnan(kappa(none, none))


def test_voters_who_agree_make_a_robust_division() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((500, 1))
    # Voters of one mind, but for two: one accepts all but a few, one next to nothing.
    bars = np.array([0.5, 0.5, 0.52, 0.48, 0.5, 0.02, 0.98])
    found = robustness(truth >= bars, Unanimity(), draw=5, repeats=6, seed=1)
    assert len(found.kappas) == len(found.linear) == 15 and len(found.drawn) == 6
    assert all(len(set(each)) == 5 for each in found.drawn)
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)
    assert (found.linear >= found.kappas - 1e-12).mean() > 0.5
    # Without the weakest or the strongest voter the division is another; without one of the rest it is not.
    assert found.without[:5].min() == 1 and found.without[5:].max() < 0.95
    again = robustness(truth >= bars, Unanimity(), draw=5, repeats=6, seed=1)
    assert again.drawn == found.drawn and np.array_equal(again.kappas, found.kappas)
    alike = robustness(np.repeat(truth >= 0.5, 7, axis=1), Unanimity(), draw=3)
    assert np.all(alike.kappas == 1)


def test_too_few_voters_or_repeats() -> None:
    with pytest.raises(ValueError, match="8 of 7 voters"):
        robustness(np.zeros((4, 7), bool), Unanimity(), draw=8)
    with pytest.raises(ValueError, match="1 repeats leave nothing to compare"):
        robustness(np.zeros((4, 7), bool), Unanimity(), draw=2, repeats=1)
