"""The rows of a gallery that may be among the nearest to some queries, while its blocks go by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: Candidates of a query, on average, above which they are sifted before the end.
_MOST = 4096
#: Of new candidates, the share of k from which on the bar is raised by them.
_WORTH = 0.5
#: Queries that one thread scores again at a time.
_QUERIES = 32
#: A unit row's length in the precision that it was stored in.
_LENGTH = 1.01


class Candidates:
    """The candidates of one block of queries.

    A row is a candidate while its score in low precision is no more than twice that precision's
    error below the k-th best so far: whoever is lower cannot be among the k nearest.

    Args:
        queries: (n, d), unit rows, on the device that computes; at most 32,767.
        gallery: (m, d), the rows that are scored again; may be mapped from a file.
        k: how many are sought.
    """

    def __init__(self, queries: torch.Tensor, gallery: NDArray[Any], k: int) -> None:
        self._queries, self._gallery, self._k = queries, gallery, k
        self._coarse = coarse_dtype(queries.device.type)
        # Sums in bfloat16, which CUDA may take for speed, would break the bound.
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        self._most = max(_MOST, 4 * k) * len(queries)
        self._low = queries.to(self._coarse)
        self._error = error_of(queries, self._low)
        self._top = torch.full((len(queries), k), -torch.inf, device=queries.device)
        self._spaces: dict[str, torch.Tensor] = {}
        # Query, row and score of the candidates: those that the bar knows of, and those since.
        self._known: list[tuple[torch.Tensor, ...]] = []
        self._new: list[tuple[torch.Tensor, ...]] = []

    def add(self, block: torch.Tensor, start: int) -> None:
        """Take in rows (b, d) of the gallery, of which the first is row `start`."""
        shape = (len(self._low), len(block))
        low = self._space("block", (len(block), block.shape[1]), self._coarse).copy_(block)
        products = torch.mm(self._low, low.T, out=self._space("products", shape, self._coarse))
        if start == 0:
            best = products.topk(min(self._k, len(block)), dim=1).values.float()
            self._top[:, : best.shape[1]] = best
        bar = self._bar()[:, None].to(products.dtype)
        query, row = _places(torch.ge(products, bar, out=self._space("mask", shape, torch.bool)))
        found = (query, row + start, products[query, row].float())
        (self._new if start else self._known).append(found)
        if _count(self._new) > _WORTH * self._k * len(self._low):
            self._raise()
        if _count(self._known) > self._most:
            self._sift()

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k nearest rows (n, k) and their cosines; -1 and -inf where there are fewer."""
        return self._exact(*self._left())

    def _space(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        """Room for a result, the same for each block: fresh memory costs as much as computing."""
        if name not in self._spaces or self._spaces[name].shape != shape:
            self._spaces[name] = torch.empty(shape, dtype=dtype, device=self._low.device)
        return self._spaces[name]

    def _bar(self) -> torch.Tensor:
        """What the k nearest cannot be below, (n,); twice the error, and a third rounding: its own."""
        highest = self._top[:, -1]
        unit = torch.finfo(self._coarse).eps / 2
        return highest - _LENGTH * (2 * self._error + 3 * unit * highest.abs())

    def _raise(self) -> None:
        """Take the scores that are new into the k best of each query."""
        if not self._new:
            return
        query, order = torch.cat([query for query, _, _ in self._new]).sort(stable=True)
        score = torch.cat([score for _, _, score in self._new])[order]
        self._known += self._new
        self._new = []
        counts = torch.bincount(query, minlength=len(self._queries))
        starts = torch.cumsum(counts, 0) - counts
        place = torch.arange(len(query), device=query.device) - starts[query]
        new = torch.full((len(self._queries), int(counts.max())), -torch.inf, device=query.device)
        new[query, place] = score
        self._top = torch.cat([self._top, new], dim=1).topk(self._k, dim=1).values

    def _left(self) -> tuple[torch.Tensor, ...]:
        """Query, row and score of those that are not below the bar by now."""
        self._raise()
        if not self._known:
            nothing = torch.empty(0, dtype=torch.int64, device=self._queries.device)
            return nothing, nothing, nothing.float()
        query, row, score = (torch.cat(column) for column in zip(*self._known, strict=True))
        kept = score >= self._bar()[query]
        return query[kept], row[kept], score[kept]

    def _sift(self) -> None:
        """Leave out what is below the bar; where that leaves many (duplicates), all but the k nearest."""
        self._known = [self._left()]
        if _count(self._known) <= self._most // 2:
            return
        rows, scores = self._exact(*self._known[0])
        query, place = np.nonzero(rows >= 0)
        columns = (query, rows[query, place], scores[query, place].astype(np.float32))
        self._known = [tuple(torch.as_tensor(column, device=self._low.device) for column in columns)]

    def _exact(
        self, owner: torch.Tensor, row: torch.Tensor, _: torch.Tensor
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k nearest candidates of each query, by falling cosine in float64, then by row."""
        # Sixteen bits are sorted by counting, ten times as fast.
        query = owner.cpu().numpy().astype(np.int16)
        order = np.argsort(query, kind="stable")
        rows = row.cpu().numpy()[order]
        edges = np.searchsorted(query[order], np.arange(len(self._queries) + 1))
        double = self._queries.double().cpu().numpy()
        shape = (len(double), self._k)
        best, cosines = np.full(shape, -1, np.int64), np.full(shape, -np.inf)

        def score(first: int) -> None:
            for at in range(first, min(first + _QUERIES, len(double))):
                mine = np.sort(rows[edges[at] : edges[at + 1]])
                # Pair by pair, not as a matrix product: a copy of a row must score as the row does.
                found = np.einsum("kd,d->k", self._gallery[mine].astype(np.float64), double[at])
                nearest = np.argsort(-found, kind="stable")[: self._k]
                best[at, : len(nearest)], cosines[at, : len(nearest)] = mine[nearest], found[nearest]

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            list(threads.map(score, range(0, len(double), _QUERIES)))
        return best, cosines


def _count(pieces: Sequence[tuple[torch.Tensor, ...]]) -> int:
    return sum(len(piece[0]) for piece in pieces)


def _places(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a mask (n, b) of few is true, row by row; looked through eight at a time where it can be."""
    if mask.shape[1] % 8:
        query, row = torch.nonzero(mask, as_tuple=True)
        return query, row
    query, word = torch.nonzero(mask.view(torch.int64), as_tuple=True)
    inside, bit = torch.nonzero(mask.view(len(mask), -1, 8)[query, word], as_tuple=True)
    return query[inside], word[inside] * 8 + bit


def error_of(queries: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """The most by which the product of each query and a unit row may be off, (n,), before it is rounded.

    By Cauchy and Schwarz: what the query lost in `low` precision, what a row may lose (half of the
    type's `eps`), and the roundings of a sum in float32.
    """
    lost = torch.linalg.vector_norm(queries.float() - low.float(), dim=1)
    unit = 0.0 if low.dtype == torch.float32 else torch.finfo(low.dtype).eps / 2
    error: torch.Tensor = lost + unit + (queries.shape[1] + 2) * 2.0**-23
    return error


@cache
def coarse_dtype(device: str) -> torch.dtype:
    """The type in which products are fastest: bfloat16 where the device multiplies it in hardware.

    The result does not depend on it, so it is found by trying.
    """
    if device != "cpu":
        return torch.bfloat16
    seconds = {dtype: _seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    # Only where much faster: more candidates must be scored again.
    much = seconds[torch.bfloat16] < seconds[torch.float32] / 2
    return torch.bfloat16 if much else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    left = torch.ones(512, 512, dtype=dtype)
    taken = []
    for _ in range(4):  # the first is slow
        started = time.perf_counter()
        left @ left
        taken.append(time.perf_counter() - started)
    return min(taken)
