"""Counting, in blocks of similarities, what stands before each matching pair."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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

    def count(self, scores: Tensor, own: Tensor, rows: slice, ahead: NDArray[np.int64]) -> None:
        """Add to `ahead` how many columns of a block reach each pair's own similarity.

        Args:
            scores: (r, c), rows of this side's numbers `rows`.
            own: (p,), the pairs' similarities.
            rows: which of this side's numbers the block holds.
            ahead: (p,), is changed.
        """
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
            ahead[pairs] += _reached(some, bar, buffer[: len(at)]).cpu().numpy().astype(np.int64)


def _reached(scores: Tensor, bar: Tensor, buffer: Tensor) -> Tensor:
    """(r,): how many of a row's scores reach its bar; the buffer is of the scores' shape and order."""
    # As numbers: comparing to truth values, and summing those, takes five times as long.
    return torch.ge(scores, bar[:, None], out=buffer).sum(dim=1)


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
