"""Counting, in blocks of similarities, what stands before each matching pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Reached:
    """Of one block.

    Attributes:
        pairs: (n,), int64: the pairs whose number is in it.
        counts: (n,), int64: how many scores surely reach the pair's own.
        doubted: (q,), int64: pairs, one for each score that may or may not reach its own.
        columns: (q,), int64: of these scores, within the block.
    """

    pairs: NDArray[np.int64]
    counts: NDArray[np.int64]
    doubted: NDArray[np.int64]
    columns: NDArray[np.int64]


class Sides:
    """The pairs in the order of one side's numbers, cut into waves: a number is in each once at most.

    Comparing a wave with a block is one operation on all of its rows.
    """

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        turn = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        by_turn = np.argsort(turn, kind="stable")
        waves = np.split(order[by_turn], np.flatnonzero(np.diff(turn[by_turn])) + 1)
        self._waves = [wave for wave in waves if len(wave)]
        self._numbers = [numbers[wave] for wave in self._waves]

    def count(self, scores: Tensor, own: Tensor, rows: slice, error: float = 0.0) -> Reached:
        """How many columns of a block reach each pair's own similarity, and of which that is in doubt.

        Args:
            scores: (r, c), rows of this side's numbers `rows`.
            own: (p,), the pairs' similarities.
            rows: which of this side's numbers the block holds.
            error: how far a score may be from the true one.
        """
        found = [_none()]
        # One for all waves: to get fresh memory takes longer than to compare.
        buffer = torch.empty_like(scores)
        for wave, numbers in zip(self._waves, self._numbers, strict=True):
            start, stop = np.searchsorted(numbers, (rows.start, rows.stop))
            pairs, at = wave[start:stop], numbers[start:stop] - rows.start
            if not len(pairs):
                continue
            # Rows are picked only where the wave leaves some out: a copy costs more than comparing.
            some = scores if len(at) == len(scores) else scores[torch.from_numpy(at).to(scores.device)]
            bar = own[torch.from_numpy(pairs).to(own.device)]
            found.append(_reached(some, bar, pairs, error, buffer[: len(at)]))
        parts = ("pairs", "counts", "doubted", "columns")
        return Reached(*(np.concatenate([getattr(each, part) for each in found]) for part in parts))


def _reached(some: Tensor, bar: Tensor, pairs: NDArray[np.int64], error: float, buffer: Tensor) -> Reached:
    """Of some rows, each with the bar of its pair; the buffer is of their shape and order."""
    high = (bar + error).to(some.dtype)[:, None]
    # As numbers: comparing to truth values, and summing those, takes five times as long.
    sure = torch.ge(some, high, out=buffer).sum(dim=1)
    none = np.zeros(0, np.int64)
    counts = sure.cpu().numpy().astype(np.int64)
    if not error:
        return Reached(pairs, counts, none, none)
    low = (bar - error).to(some.dtype)[:, None]
    in_doubt = torch.nonzero(torch.ge(some, low, out=buffer).sum(dim=1) > sure).flatten()
    few = some[in_doubt]
    row, column = ((few >= low[in_doubt]) & (few < high[in_doubt])).nonzero(as_tuple=True)
    doubted = pairs[in_doubt[row].cpu().numpy()]
    return Reached(pairs, counts, doubted, column.cpu().numpy())


def _none() -> Reached:
    none = np.zeros(0, np.int64)
    return Reached(none, none, none, none)


def equal_later(
    queries: NDArray[np.int64], items: NDArray[np.int64], own: NDArray[np.floating]
) -> NDArray[np.int64]:
    """(p,): how many other matches of the same query are equal and later in the gallery.

    All that is equal has been counted as ahead; of these the later matches are not.
    """
    order = np.lexsort((items, own, queries))
    query, score = queries[order], own[order]
    differs = (query[1:] != query[:-1]) | (score[1:] != score[:-1])
    ends = np.append(np.flatnonzero(differs) + 1, len(order))
    later = np.empty(len(order), np.int64)
    later[order] = np.repeat(ends, np.diff(ends, prepend=0)) - 1 - np.arange(len(order))
    return later
