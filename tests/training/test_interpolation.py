from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.training.interpolation import best_share, interpolated

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def bits(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def weights(seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, 4, generator=random).to(dtype) for name in ("visual.proj", "text.proj")}


@settings(max_examples=40)
@given(st.floats(0, 1), st.sampled_from(FLOATS))
def test_the_formula(share: float, dtype: torch.dtype) -> None:
    start, tuned = weights(0, dtype), weights(1, dtype)
    found = interpolated(start, tuned, share)
    assert found.keys() == tuned.keys()
    for name, value in found.items():
        naive = (1 - share) * start[name].double() + share * tuned[name].double()
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), naive, rtol=torch.finfo(dtype).eps, atol=1e-15)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_ends_are_the_models_themselves(dtype: torch.dtype) -> None:
    odd = [-0.0, 0.0, math.nan, math.inf, -math.inf, 1e-40, 0.1]
    start = {"w": torch.tensor(odd, dtype=dtype), "position": torch.tensor([1, 2])}
    tuned = {"w": torch.tensor(odd[::-1], dtype=dtype), "position": torch.tensor([3, 4])}
    for share, model in ((0.0, start), (1.0, tuned)):
        found = interpolated(start, tuned, share)
        assert {name: bits(value) for name, value in found.items()} == {n: bits(v) for n, v in model.items()}
        found["w"].zero_()
        found["position"].zero_()
    assert start["position"].tolist() == [1, 2] and tuned["position"].tolist() == [3, 4], "copies"


@pytest.mark.parametrize("share", [0.1, 0.5, 1 / 3])
def test_what_training_left_alone_stays(share: float) -> None:
    frozen = torch.tensor([0.1, -0.0, math.inf, -math.inf, 1e-40, 3e38])
    numbers = {"seen": torch.tensor(5), "mask": torch.tensor([True, False])}
    changed = {"seen": torch.tensor(9), "mask": torch.tensor([False, False])}
    found = interpolated({"w": frozen, **numbers}, {"w": frozen.clone(), **changed}, share)
    assert bits(found["w"]) == bits(frozen)
    assert found["seen"].item() == 9 and found["mask"].tolist() == [False, False], "never in between"


def test_types_of_the_tuned_model() -> None:
    found = interpolated({"w": torch.ones(1).double()}, {"w": torch.full((1,), 2.0).half()}, 0.25)
    assert found["w"].dtype == torch.float16 and found["w"].item() == 1.25
    parameter = torch.nn.Parameter(torch.ones(1))
    assert not interpolated({"w": parameter}, {"w": parameter}, 1.0)["w"].requires_grad


def test_models_that_differ() -> None:
    one = {"w": torch.ones(2)}
    for other in ({"v": torch.ones(2)}, {"w": torch.ones(3)}, {"w": torch.ones(1)}, {}):
        with pytest.raises(ValueError, match=r"^[vw] is not the same weight"):
            interpolated(one, other, 0.5)
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="must lie in 0 to 1"):
            interpolated(one, one, share)


@given(st.dictionaries(st.floats(0, 1), st.integers(0, 3), min_size=1, max_size=8))
def test_the_best_share_by_brute_force(scores: dict[float, int]) -> None:
    best, told = best_share(list(scores), lambda share: scores[share])
    top = max(scores.values())
    assert best == min(share for share, score in scores.items() if score == top)
    assert told == sorted(scores.items())


def test_each_share_is_scored_once_and_no_number_never_wins() -> None:
    asked: list[float] = []

    def score(share: float) -> float:
        asked.append(share)
        return math.nan if share < 0.5 else -share

    assert best_share([1, 0.2, 0.5, 0.2, 1.0], score)[0] == 0.5
    assert asked == [0.2, 0.5, 1.0]
    for shares in ([], [0.1, 0.2]):
        with pytest.raises(ValueError, match="no share of the tuned weights can be chosen"):
            best_share(shares, score)
