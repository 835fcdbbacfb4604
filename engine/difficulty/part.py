"""The votes on one part's pairs, as the table that is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.difficulty.tables import pairs_schema
from engine.difficulty.voting import CATEGORIES, VotingRule, categorize
from engine.errors import StorageError
from engine.evaluation.pairs import PairTables, PartPairs
from engine.retrieval.cosines import paired


@dataclass(frozen=True)
class _Seen:
    """Pairs as one voter sees them, each told by its cell: its sample and which caption of it."""

    cells: NDArray[np.int64]
    similarities: NDArray[np.float64]


def divide(
    voters: Sequence[PairTables], thresholds: Sequence[float], rule: VotingRule, part: str
) -> pa.Table:
    """Have the voters vote on all pairs of a part; schema `pairs_schema`.

    A voter accepts a pair whose cosine reaches its threshold. A pair that a voter has no vector of
    has no category.

    Raises:
        StorageError: a table of vectors is not there, or is not what its fingerprint says.
        ValueError: the rule does not fit so many voters.
    """
    images, counts = voters[0].images.images(part), _counts(voters, part)
    starts = np.cumsum(counts) - counts
    cells, scores = _together([_seen(voter.read(part), starts) for voter in voters])
    votes = scores >= np.asarray(thresholds)
    total, bad = int(counts.sum()), np.ones(int(counts.sum()), np.bool_)
    bad[cells] = False
    names = np.full(total, None, object)
    names[cells] = np.array(CATEGORIES, object)[categorize(votes, rule)]
    offsets = np.append(starts, total).astype(np.int32)
    columns = [
        pa.array(images.ids),
        pa.array(images.keys),
        _lists(offsets, pa.array(names, pa.string())),
        _lists(offsets, _fixed(_spread(votes, cells, total), bad)),
        _lists(offsets, _fixed(_spread(scores.astype(np.float32), cells, total), bad)),
        pa.array(images.errors, pa.string()),
    ]
    return pa.table(columns, schema=pairs_schema(len(voters)))


def _counts(voters: Sequence[PairTables], part: str) -> NDArray[np.int64]:
    """(n,): how many captions each sample has; a voter may have failed on a sample, and has none then."""
    told = np.stack([voter.captions.captions(part).counts for voter in voters])
    counts = told.max(axis=0)
    if (wrong := (told != counts) & (told > 0)).any():
        voter = voters[int(np.argwhere(wrong)[0][0])]
        raise StorageError(
            f"{voter.captions.tables.table(part).uri}: has other captions than the tables of the other "
            "voters; delete it, and run the recipe again"
        )
    return np.asarray(counts)


def _seen(pairs: PartPairs, starts: NDArray[np.int64]) -> _Seen:
    similarities = paired(pairs.images[pairs.owners], pairs.texts).numpy()
    return _Seen(starts[pairs.rows[pairs.owners]] + pairs.places, similarities)


def _together(seen: Sequence[_Seen]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs that all voters see, (m,), and what each finds of them, (m, voters)."""
    cells = seen[0].cells
    for each in seen[1:]:
        cells = np.intersect1d(cells, each.cells, assume_unique=True)
    # The cells of a voter ascend, so each is found by its place.
    columns = [each.similarities[np.searchsorted(each.cells, cells)] for each in seen]
    return cells, np.stack(columns, axis=1)


def _spread(values: NDArray[Any], cells: NDArray[np.int64], total: int) -> NDArray[Any]:
    """The rows in the places of all captions."""
    full = np.zeros((total, values.shape[1]), values.dtype)
    full[cells] = values
    return full


def _fixed(rows: NDArray[Any], bad: NDArray[np.bool_]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1], mask=pa.array(bad))


def _lists(offsets: NDArray[np.int32], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets), values)
