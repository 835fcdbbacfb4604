"""How early all matches of a query come: average precision, mAP@R and R-Precision, out of their ranks.

METHODS B8. All three need the ranks of the matches and nothing else of the gallery. mAP@R and
R-Precision are those of ECCV Caption (Chun et al. 2022); the "mAP" that IMP printed is the full one.
Matches that are equal to others stand where `engine.retrieval.ranks` puts them: behind what is equal
and does not match. So these are the least of the values that other orders of equal items give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.retrieval.recall import Floats


@dataclass(frozen=True)
class Precisions:
    """Of each query that has a match; the mean over queries is the figure that tables print.

    Attributes:
        queries: (q,), int64, ascending.
        matches: (q,), int64: how many match it; R of its gallery.
        full: (q,): average precision over the whole gallery; with one match it is 1 / rank.
        at_r: (q,): average precision over the first R places, divided by R. It is no larger than `full`.
        r_precision: (q,): share of matches among the first R places.
    """

    queries: NDArray[np.int64]
    matches: NDArray[np.int64]
    full: Floats
    at_r: Floats
    r_precision: Floats


def precisions(queries: NDArray[np.int64], ranks: NDArray[np.int64]) -> Precisions:
    """The three of each query.

    Args:
        queries: (p,), the query of each matching pair.
        ranks: (p,), where its match stands for it, from 1 on; no two matches of a query stand alike.

    Raises:
        ValueError: a rank is below 1, or a query's matches share one.
    """
    order = np.lexsort((ranks, queries))
    query, rank = queries[order], ranks[order]
    new = np.diff(query, prepend=query[:1] - 1) != 0
    _check(query, rank, new)
    starts = np.flatnonzero(new)
    matches = np.diff(starts, append=len(query))
    if not len(starts):
        none = np.zeros(0)
        return Precisions(query, matches, none, none, none)
    # The precision at each match's place: itself and the matches before it, of all that stand there.
    at_match = (np.arange(len(query)) - np.repeat(starts, matches) + 1) / rank
    early = rank <= np.repeat(matches, matches)
    return Precisions(
        query[starts],
        matches,
        np.add.reduceat(at_match, starts) / matches,
        np.add.reduceat(np.where(early, at_match, 0.0), starts) / matches,
        np.add.reduceat(early.astype(np.float64), starts) / matches,
    )


def _check(query: NDArray[np.int64], rank: NDArray[np.int64], new: NDArray[np.bool_]) -> None:
    if len(rank) and rank.min() < 1:
        raise ValueError(f"a match has rank {rank.min()}; the first place is 1")
    alike = np.flatnonzero(~new[1:] & (np.diff(rank) == 0))
    if len(alike):
        raise ValueError(
            f"two matches of query {query[alike[0]]} have rank {rank[alike[0]]}; each has a place of its own"
        )
