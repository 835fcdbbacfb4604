"""Products of vectors of any length without any rounding: the same for a pair wherever it is computed.

As with cosines (`engine.retrieval.cosines`), components lie on a grid so coarse that float64 holds every
sum of d products. Here the grid is each item's own: its components are scaled by a power of two to at
most 1, and scaling a product back by powers of two loses nothing. Of 512 components the step is 2^-22
of the power of two above the largest, which float16 vectors hardly notice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.retrieval.elementary import power_of_two


@dataclass(frozen=True)
class Items:
    """Images or texts as float64 numbers whose products float64 adds without rounding.

    Attributes:
        vectors: (n, k, d), multiples of a step, at most 1; what they were is `size` times that.
        size: (n,), powers of two.
        squares: (n, k), of the lengths they had.
    """

    vectors: Tensor
    size: Tensor
    squares: Tensor

    @classmethod
    def of(cls, sets: Tensor) -> Items:
        """Of (n, k, d). The step is the least at which d products, each at most 1, have 53 bits together."""
        bits = (53 - math.ceil(math.log2(sets.shape[2]))) // 2
        given = sets.double()
        exponents = torch.frexp(given.abs().amax(dim=(1, 2))).exponent
        scale = power_of_two(bits - exponents)[:, None, None]
        vectors, size = torch.round(given * scale) * 2.0**-bits, power_of_two(exponents)
        squares = (vectors * vectors).sum(dim=2) * (size * size)[:, None]
        return cls(vectors, size, squares)


@dataclass(frozen=True)
class Pairs:
    """Each item of one side and the item of its row on the other; results are (n,)."""

    x: Items
    y: Items

    def product(self, k: int, j: int) -> Tensor:
        """Of vector k of one side and vector j of the other, without rounding."""
        return (self.x.vectors[:, k] * self.y.vectors[:, j]).sum(dim=1) * (self.x.size * self.y.size)

    def squares(self, k: int, j: int) -> Tensor:
        """The sum of both squared lengths."""
        return self.x.squares[:, k] + self.y.squares[:, j]


class Block(Pairs):
    """Each item of one side and each of the other; results are (n, m)."""

    def product(self, k: int, j: int) -> Tensor:
        """See `Pairs.product`."""
        return (self.x.vectors[:, k] @ self.y.vectors[:, j].T) * (self.x.size[:, None] * self.y.size)

    def squares(self, k: int, j: int) -> Tensor:
        """See `Pairs.squares`."""
        return self.x.squares[:, k, None] + self.y.squares[:, j]
