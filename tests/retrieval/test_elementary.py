"""exp, log and roots are nearly those of numpy's long doubles, and the same wherever a number stands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.retrieval.elementary import LARGEST, exp, log, power_of_two, sqrt

RANDOM = np.random.default_rng(0)
_WIDE, _SMALL = RANDOM.uniform(-LARGEST, LARGEST, 5000), RANDOM.normal(0, 1e-6, 500)
ARGUMENTS = {
    exp: np.concatenate([_WIDE, _SMALL, [0, -0.0, LARGEST, -LARGEST]]),
    log: np.concatenate([np.exp(_WIDE), 1 + _SMALL, [1, 0.5, 0.75]]),
    sqrt: np.concatenate([np.exp(_WIDE), [0, 1, 2, 1e-6]]),
}


@pytest.mark.parametrize("function", [exp, log, sqrt])
def test_they_are_right_within_three_units(function: Callable[[Tensor], Tensor]) -> None:
    given = ARGUMENTS[function]
    theirs: Any = getattr(np, function.__name__)(given.astype(np.longdouble))
    found = function(torch.from_numpy(given)).numpy()
    off = np.abs(found - theirs) / np.spacing(np.abs(theirs).astype(np.float64))
    assert off.max() < 3
    if function is sqrt:
        assert found.tolist() == [math.sqrt(number) for number in given]


@pytest.mark.parametrize("function", [exp, log, sqrt])
def test_a_number_has_one_result(function: Callable[[Tensor], Tensor]) -> None:
    """Alone, in the rest that no vector unit takes, in a row of a matrix, and not contiguous."""
    given = torch.from_numpy(ARGUMENTS[function])
    whole = function(given)
    assert torch.equal(whole, torch.stack([function(number) for number in given]))
    for start in range(1, 8):
        assert torch.equal(function(given[start:]), whole[start:])
    some = given[:4992].view(48, 104)
    assert torch.equal(function(some.T), whole[:4992].view(48, 104).T)


def test_what_is_no_number_stays_so() -> None:
    for function in (exp, log, sqrt):
        assert function(torch.tensor([math.nan, 1.0], dtype=torch.float64)).isnan().tolist() == [True, False]


def test_powers_of_two() -> None:
    exponents = torch.arange(-1022, 1024, dtype=torch.int32)
    assert power_of_two(exponents).tolist() == [2.0**n for n in range(-1022, 1024)]
