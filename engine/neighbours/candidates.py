"""The rows of a gallery that may be among the nearest to some queries, while its blocks go by."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.neighbours.precision import coarse_dtype, error_of

#: Candidates of a query, on average, above which they are sifted before the end.
_MOST = 4096
#: Of new candidates, the share of k from which on the bar is raised by them.
_WORTH = 0.5
#: New candidates of one query, in k, above which only its best are looked at: all have as much room.
_UNEVEN = 4
#: Queries that one thread scores again at a time, and candidates of one of them.
_QUERIES, _SCORED = 32, 1024
#: Columns of products that are looked at together.
_GROUP = 8
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
        low = block
        if block.dtype != self._coarse:
            low = self._space("block", (len(block), block.shape[1]), self._coarse).copy_(block)
        products = torch.mm(self._low, low.T, out=self._space("products", shape, self._coarse))
        if start == 0:
            best = _some_best(products, self._k).float()
            self._top[:, : best.shape[1]] = best
        query, row = _reaching(products, self._bar().to(products.dtype)[:, None])
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
        query = torch.cat([query for query, _, _ in self._new])
        score = torch.cat([score for _, _, score in self._new])
        self._known += self._new
        self._new = []
        counts = torch.bincount(query, minlength=len(self._queries))
        if counts.max() > _UNEVEN * self._k:  # as where the gallery is full of copies of one query
            query, score = _highest(query, score, self._k)
            counts = counts.clamp(max=self._k)
        query, order = query.sort(stable=True)
        place, score = _places(query, counts), score[order]
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
                found = _cosines(self._gallery, mine, double[at])
                nearest = np.argsort(-found, kind="stable")[: self._k]
                best[at, : len(nearest)], cosines[at, : len(nearest)] = mine[nearest], found[nearest]

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            list(threads.map(score, range(0, len(double), _QUERIES)))
        return best, cosines


def _cosines(
    gallery: NDArray[Any], rows: NDArray[np.int64], query: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Those of some rows, (c,), some at a time: of a gallery of copies all are candidates of one query.

    Pair by pair, not as a matrix product: a copy of a row must score as the row does.
    """
    found = np.empty(len(rows))
    for start in range(0, len(rows), _SCORED):
        some = slice(start, start + _SCORED)
        np.vecdot(gallery.take(rows[some], axis=0).astype(np.float64), query, out=found[some])
    return found


def _count(pieces: Sequence[tuple[torch.Tensor, ...]]) -> int:
    return sum(len(piece[0]) for piece in pieces)


def _places(query: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """How many of the same query stand before each, of ascending queries (n,)."""
    starts = torch.cumsum(counts, 0) - counts
    return torch.arange(len(query), device=query.device) - starts[query]


def _highest(query: torch.Tensor, score: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k highest scores of each query and whose they are, from scores in any order."""
    by = score.argsort(descending=True)
    query, order = query[by].sort(stable=True)
    kept = _places(query, torch.bincount(query)) < k
    return query[kept], score[by][order][kept]


def _some_best(products: torch.Tensor, k: int) -> torch.Tensor:
    """The scores (n, at most k) of the best columns; of many columns, of the best groups of them."""
    width = products.shape[1]
    if width % _GROUP == 0 and width // _GROUP >= 4 * k:
        # Found in a quarter of the time, and the last of them is hardly lower.
        products = products.view(len(products), _GROUP, -1).amax(1)
    return products.topk(min(k, products.shape[1]), dim=1).values


def _reaching(products: torch.Tensor, bar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of the few products (n, b) that are not below their row's bar (n, 1)."""
    if products.shape[1] % _GROUP or not bar.min() > 0:
        query, row = torch.nonzero(products >= bar, as_tuple=True)
        return query, row
    # Positive floats are ordered as their bits are, which are compared several times as fast: the
    # largest of each group first, then all of the groups that reach the bar.
    bits = torch.int16 if products.element_size() == 2 else torch.int32
    groups = products.view(len(products), _GROUP, -1)
    query, group = torch.nonzero(groups.view(bits).amax(1) >= bar.view(bits), as_tuple=True)
    hit, member = torch.nonzero(groups[query, :, group] >= bar[query], as_tuple=True)
    return query[hit], member * groups.shape[2] + group[hit]
