"""Easy, medium or hard: by how many voters accept a caption for its image.

METHODS B11. The paper says high, partial and low agreement and gives no cuts. Unanimity is the reading
that its other figures support; a quorum and a majority with a tie-breaker are here beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

#: The categories, by their codes.
CATEGORIES: Final = ("easy", "medium", "hard")
EASY, MEDIUM, HARD = range(3)


@dataclass(frozen=True)
class Unanimity:
    """Easy where all accept, hard where none does."""

    kind: Literal["unanimity"] = "unanimity"


@dataclass(frozen=True)
class Quorum:
    """Easy where at least so many accept, hard where at most so many do.

    Attributes:
        easy: accepting voters from which on a pair is easy.
        hard: accepting voters up to which a pair is hard; below `easy`.
    """

    easy: int
    hard: int
    kind: Literal["quorum"] = "quorum"


@dataclass(frozen=True)
class TieBreaker:
    """The last voter decides where the others are split in half; medium is where they are not of one mind.

    Easy where all others accept, or where half of them and the last one do; hard where none of the
    others does, or where half of them do and the last one does not.
    """

    kind: Literal["tie_breaker"] = "tie_breaker"


VotingRule = Unanimity | Quorum | TieBreaker


def categorize(votes: NDArray[np.bool_], rule: VotingRule) -> NDArray[np.int8]:
    """The category of each pair.

    Args:
        votes: (pairs, voters), whether a voter accepts a pair.
        rule: how votes become a category.

    Returns:
        (pairs,), codes of `CATEGORIES`.

    Raises:
        ValueError: there is no voter, or the rule does not fit so many.
    """
    voters = votes.shape[1]
    match rule:
        case Unanimity():
            easy, hard = _cuts(votes, voters, 0)
        case Quorum():
            if not 0 <= rule.hard < rule.easy <= voters:
                raise ValueError(
                    f"a quorum of {rule.easy} to be easy and of {rule.hard} to be hard does not fit {voters} "
                    f"voters: 0 <= hard < easy <= {voters}"
                )
            easy, hard = _cuts(votes, rule.easy, rule.hard)
        case TieBreaker():
            others = voters - 1
            if others < 2 or others % 2:
                raise ValueError(f"a tie-breaker breaks ties of an even number of others, not of {others}")
            easy, hard = _cuts(votes[:, :-1], others, 0)
            split = votes[:, :-1].sum(axis=1) == others // 2
            easy, hard = easy | (split & votes[:, -1]), hard | (split & ~votes[:, -1])
    return np.select([easy, hard], [EASY, HARD], MEDIUM).astype(np.int8)


def _cuts(votes: NDArray[np.bool_], easy: int, hard: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if not votes.shape[1]:
        raise ValueError("nobody votes; name at least one model")
    accepting = votes.sum(axis=1)
    return accepting >= easy, accepting <= hard
