"""exp, log and square roots with the same bits everywhere.

A library's exp rounds differently in a vector unit and in the loop over what is left, on another
processor, and on a GPU, so the same pair would get different similarities. Here exp and log are made of
additions, products and quotients of float64 alone, each of them rounded as IEEE 754 says and one
operation at a time, so that nothing is fused: whatever computes them, wherever a number stands in its
tensor, the result is the same, and within 3 units in the last place. They take ten times as long.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

#: As far from 0 as an argument of `exp` may be: e^700 is near the end of float64.
LARGEST: Final = 700.0
#: ln 2 as the sum of two numbers; the first has 32 bits, so that its products with exponents are exact.
_LN2_HIGH: Final = float.fromhex("0x1.62e42feep-1")
_LN2_LOW: Final = float.fromhex("0x1.a39ef35793c76p-33")
#: 1/n!, of which the last that counts below ln(2)/2 is the 13th.
_INVERSE_FACTORIALS: Final = [1 / math.factorial(n) for n in range(13, -1, -1)]
#: 1/(2n + 1) of the series of artanh, which ends at |x| below 0.172.
_ODD_INVERSES: Final = [1 / n for n in range(21, 0, -2)]
_BIAS, _MANTISSA = 1023, 52


def exp(x: Tensor) -> Tensor:
    """e^x of float64 numbers from -700 to 700; of NaN it is NaN."""
    twos = torch.round(x * (1 / math.log(2)))
    rest = (x - twos * _LN2_HIGH) - twos * _LN2_LOW
    return _polynomial(rest, _INVERSE_FACTORIALS) * power_of_two(twos.nan_to_num())


def log(x: Tensor) -> Tensor:
    """The natural logarithm of float64 numbers above 0; of anything else it means nothing."""
    mantissa, exponent = torch.frexp(x)
    small = mantissa < math.sqrt(0.5)
    # Between the roots of 1/2 and 2, where the series is shortest.
    mantissa = torch.where(small, 2 * mantissa, mantissa)
    twos = exponent.double() - small.double()
    ratio = (mantissa - 1) / (mantissa + 1)
    series = 2 * ratio * _polynomial(ratio * ratio, _ODD_INVERSES)
    return twos * _LN2_HIGH + (series + twos * _LN2_LOW)


def sqrt(x: Tensor) -> Tensor:
    """The root of float64 numbers from 0 on: torch's own is not rounded as IEEE 754 says on processors."""
    return x.sqrt() if x.is_cuda else torch.from_numpy(np.asarray(np.sqrt(x.numpy())))


def power_of_two(exponents: Tensor) -> Tensor:
    """2^n, float64, of whole numbers from -1022 to 1023: written as its bits."""
    return ((exponents.to(torch.int64) + _BIAS) << _MANTISSA).view(torch.float64)


def _polynomial(x: Tensor, coefficients: list[float]) -> Tensor:
    """By Horner's rule, from the highest power down."""
    total = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total.mul_(x).add_(coefficient)
    return total
