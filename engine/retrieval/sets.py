"""Similarities of sets of vectors, and of samples of distributions, with the same bits for a pair anywhere.

Products of vectors are without rounding (`engine.retrieval.products`), and all that follows is computed
number by number, in one order, with operations whose rounding IEEE 754 prescribes
(`engine.retrieval.elementary`). So a similarity depends on its pair alone, and not on the block, device
or worker that computes it. Blocks are first computed with the libraries' functions, which are fast and
nearly the same; see `Bounded`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.encoders.own_similarity import (
    Cosine,
    DotProduct,
    MatchingProbability,
    OwnSimilarity,
    SmoothChamfer,
)
from engine.retrieval.cosines import Cosines, check_widths
from engine.retrieval.cosines import paired as paired_cosines
from engine.retrieval.elementary import LARGEST, exp, log, sqrt
from engine.retrieval.products import Block, Items, Pairs
from engine.retrieval.similarity import Similarity

#: Below the root of a distance, as where it was trained (METHODS B12).
_EPSILON = 1e-6
#: By how much functions of libraries may make a similarity differ, of a largest argument of 1: some
#: hundred roundings of float64 are 1e-14.
_ERROR = 1e-11
#: Pairs that are compared at once.
_PIECE = 2048


def similarity_of(
    own: OwnSimilarity,
    images: NDArray[Any],
    texts: NDArray[Any],
    device: str = "cpu",
    first: tuple[int, int] = (0, 0),
) -> Similarity:
    """An encoder's own similarity of images and texts, for `engine.retrieval.ranks`.

    Args:
        own: which.
        images: (n, d) or (n, k, d), float16, float32 or float64.
        texts: (m, d) or (m, l, d).
        device: where it is computed.
        first: the numbers of the first image and the first text, by which they are asked for.

    Raises:
        ValueError: the widths differ, or these are no floating-point numbers; of cosines also where a
            vector is longer than 1.
    """
    if isinstance(own, Cosine):
        return Cosines(images, texts, device, first)
    return Sets(own, images, texts, device, first)


def paired(own: OwnSimilarity, images: NDArray[Any], texts: NDArray[Any]) -> Tensor:
    """(n,), float64: of each image and the text of its row, bit by bit as `similarity_of` has it."""
    if isinstance(own, Cosine):
        return paired_cosines(images, texts)
    rows = torch.arange(len(images))
    return Sets(own, images, texts).exact(rows, rows)


class Sets:
    """Any similarity but cosines; args and errors as of `similarity_of`.

    Attributes:
        error: how far a similarity of `coarse` may be from the one of a block.
    """

    def __init__(
        self,
        own: OwnSimilarity,
        images: NDArray[Any],
        texts: NDArray[Any],
        device: str = "cpu",
        first: tuple[int, int] = (0, 0),
    ) -> None:
        check_widths(images, texts)
        self._own, self._first = own, first
        self._images, self._texts = _on_device(images, device), _on_device(texts, device)
        self.error = _ERROR * _largest_argument(own, self._images, self._texts)

    def __call__(self, rows: slice, columns: slice) -> Tensor:
        """(rows, columns), float64."""
        return _compared(self._own, self._block(rows, columns), _SAME)

    def coarse(self, rows: slice, columns: slice) -> Tensor:
        """(rows, columns), float64: no farther than `error` from those of a block."""
        return _compared(self._own, self._block(rows, columns), _FAST)

    def exact(self, images: Tensor, texts: Tensor) -> Tensor:
        """(n,), float64: of single pairs, named by (n,) numbers; bit by bit as in a block."""
        found = self._images.new_empty(len(images), dtype=torch.float64)
        for start in range(0, len(images), _PIECE):
            piece = slice(start, start + _PIECE)
            x = self._images[(images[piece] - self._first[0]).to(self._images.device)]
            y = self._texts[(texts[piece] - self._first[1]).to(self._texts.device)]
            found[piece] = _compared(self._own, Pairs(Items.of(x), Items.of(y)), _SAME)
        return found

    def _block(self, rows: slice, columns: slice) -> Block:
        images = self._images[rows.start - self._first[0] : rows.stop - self._first[0]]
        texts = self._texts[columns.start - self._first[1] : columns.stop - self._first[1]]
        return Block(Items.of(images), Items.of(texts))


@dataclass(frozen=True)
class _Functions:
    exp: Callable[[Tensor], Tensor]
    log: Callable[[Tensor], Tensor]
    sqrt: Callable[[Tensor], Tensor]


_SAME = _Functions(exp, log, sqrt)
_FAST = _Functions(torch.exp, torch.log, torch.sqrt)


def _compared(own: OwnSimilarity, pairs: Pairs, by: _Functions) -> Tensor:
    match own:
        case Cosine():
            raise ValueError("cosines are those of engine.retrieval.cosines; ask `similarity_of`")
        case SmoothChamfer():
            return _smooth_chamfer(own, pairs, by)
        case MatchingProbability():
            return _log_odds(own, pairs, by)
        case DotProduct():
            one, other = _counts(pairs)
            products = (pairs.product(k, j) for k in range(one) for j in range(other))
            return _divided(reduce(torch.add, products), one * other)


def _smooth_chamfer(own: SmoothChamfer, pairs: Pairs, by: _Functions) -> Tensor:
    """1 + sum_k log sum_j e^(a c_kj - a) / (2 a K) + sum_j log sum_k e^(a c_kj - a) / (2 a J)."""
    (one, other), a = _counts(pairs), own.sharpness
    columns: list[Tensor] = []
    of_rows: list[Tensor] = []
    for k in range(one):
        row = [by.exp(((pairs.product(k, j) - 1) * a).clamp(-LARGEST, LARGEST)) for j in range(other)]
        of_rows.append(by.log(reduce(torch.add, row)))
        columns = [column + near for column, near in zip(columns, row, strict=True)] if columns else row
    of_columns = [by.log(column) for column in columns]
    means = _divided(reduce(torch.add, of_rows), one) + _divided(reduce(torch.add, of_columns), other)
    return _divided(means, 2 * a) + 1


def _divided(x: Tensor, number: float) -> Tensor:
    """The quotient as IEEE 754 rounds it: by a plain number torch multiplies with its reciprocal on GPUs."""
    return x / x.new_tensor(number)


def _log_odds(own: MatchingProbability, pairs: Pairs, by: _Functions) -> Tensor:
    """log(p / (1 - p)) of p, the mean of sigmoid(x), x = 2 (b - a |z - z'|), cut to -700 and 700."""
    one, other = _counts(pairs)
    yes, no = torch.zeros(()), torch.zeros(())
    for k in range(one):
        for j in range(other):
            squares = pairs.squares(k, j) - 2 * pairs.product(k, j)
            distance = by.sqrt(squares.clamp(min=0) + _EPSILON)
            x = 2 * (own.shift - own.scale * distance)
            # sigmoid(|x|) and sigmoid(-|x|), neither as 1 less something.
            small = by.exp(-x.abs().clamp(max=LARGEST))
            large = 1 / (1 + small)
            small, likely = small * large, x > 0
            yes = yes + torch.where(likely, large, small)
            no = no + torch.where(likely, small, large)
    return by.log(yes) - by.log(no)


def _counts(pairs: Pairs) -> tuple[int, int]:
    return pairs.x.vectors.shape[1], pairs.y.vectors.shape[1]


def _largest_argument(own: OwnSimilarity, images: Tensor, texts: Tensor) -> float:
    """Of exp and of log, at least 1: roundings are in proportion to it."""
    longest = sum(_longest(each) for each in (images, texts))
    match own:
        case MatchingProbability():
            return 1 + 2 * (abs(own.shift) + abs(own.scale) * (longest + 1))
        case SmoothChamfer():
            return 1 + own.sharpness * (1 + longest**2)
    return 1 + longest**2


def _longest(sets: Tensor) -> float:
    """The length of the longest vector."""
    return float(torch.linalg.vector_norm(sets.float(), dim=-1).max()) if len(sets) else 0.0


def _on_device(vectors: NDArray[Any], device: str) -> Tensor:
    """(n, k, d), as they were given."""
    given = torch.from_numpy(vectors).to(device)
    if not torch.is_floating_point(given):
        raise ValueError(f"vectors are floating-point numbers, not {given.dtype}")
    return given[:, None] if given.ndim == 2 else given
