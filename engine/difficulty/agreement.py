"""How far two divisions into categories agree (Cohen's kappa), and how much depends on who votes.

METHODS B11. The paper draws 7 of 30 models ten times and gives the range of kappa. Which of the 45
pairs of divisions it means, and the weighting, are open: here all pairs, plain and linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.difficulty.voting import CATEGORIES, VotingRule, categorize


def kappa(
    one: NDArray[np.integer],
    other: NDArray[np.integer],
    linear: bool = False,
    counts: NDArray[np.integer] | None = None,
) -> float:
    """Cohen's kappa between two divisions of the same pairs; 1 where both put all into one category.

    Args:
        one, other: (pairs,), codes of `CATEGORIES`.
        linear: count a disagreement by how far apart the categories are.
        counts: (pairs,), how many pairs each row stands for; one by default.

    Returns:
        (observed - expected) / (1 - expected) agreement; nan of no pairs.
    """
    count = len(CATEGORIES)
    cells = np.bincount(one.astype(np.int64) * count + other, counts, minlength=count * count)
    table = cells.reshape(count, count)
    if not table.sum():
        return np.nan
    share = table / table.sum()
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    cost = apart if linear else (apart > 0)
    expected = float((np.outer(share.sum(axis=1), share.sum(axis=0)) * cost).sum())
    observed = float((share * cost).sum())
    return 1.0 if expected == 0 else 1 - observed / expected


@dataclass(frozen=True)
class Robustness:
    """How much the division depends on who votes.

    Attributes:
        drawn: of each repeat, the columns of the voters drawn.
        shares: (repeats, categories): the share of each category.
        kappas, linear: (pairs of repeats,): plain and linear-weighted kappa between each two.
        without: by voter, kappa between the division of all and that of all but this one.
    """

    drawn: list[tuple[int, ...]]
    shares: NDArray[np.float64]
    kappas: NDArray[np.float64]
    linear: NDArray[np.float64]
    without: NDArray[np.float64]


def robustness(
    votes: NDArray[np.bool_],
    rule: VotingRule,
    draw: int,
    repeats: int = 10,
    seed: int = 0,
    counts: NDArray[np.integer] | None = None,
) -> Robustness:
    """Divide by `draw` voters drawn at random, again and again, and compare.

    Args:
        votes: (pairs, voters).
        rule: of `draw` voters; for `without`, of all and of all but one, where it fits so many.
        draw: voters of a repeat.
        repeats: at least 2.
        seed: of the draws.
        counts: (pairs,), how many pairs each row stands for; one by default. Millions of pairs have
            few different votes.

    Raises:
        ValueError: there are fewer voters than are drawn, or nothing to compare.
    """
    voters = votes.shape[1]
    if not 1 <= draw <= voters:
        raise ValueError(f"{draw} of {voters} voters cannot be drawn")
    if repeats < 2:
        raise ValueError(f"{repeats} repeats leave nothing to compare; draw at least twice")
    rng = np.random.default_rng(seed % 2**64)
    drawn = [tuple(sorted(map(int, rng.choice(voters, draw, replace=False)))) for _ in range(repeats)]
    divisions = [categorize(votes[:, columns], rule) for columns in drawn]
    pairs = list(combinations(divisions, 2))
    return Robustness(
        drawn,
        np.stack([shares(each, counts) for each in divisions]),
        np.array([kappa(*pair, counts=counts) for pair in pairs]),
        np.array([kappa(*pair, linear=True, counts=counts) for pair in pairs]),
        _without(votes, rule, counts),
    )


def shares(categories: NDArray[np.integer], counts: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
    """(categories,): the share of each; nan of no pairs. Args as of `kappa`."""
    found = np.bincount(categories, counts, minlength=len(CATEGORIES))
    return found / found.sum() if found.sum() else np.full(len(CATEGORIES), np.nan)


def _without(
    votes: NDArray[np.bool_], rule: VotingRule, counts: NDArray[np.integer] | None
) -> NDArray[np.float64]:
    """(voters,): nan where the rule does not fit all voters or one fewer."""
    voters = votes.shape[1]
    found = np.full(voters, np.nan)
    try:
        whole = categorize(votes, rule)
        for voter in range(voters):
            rest = categorize(np.delete(votes, voter, axis=1), rule)
            found[voter] = kappa(whole, rest, counts=counts)
    except ValueError:
        pass
    return found
