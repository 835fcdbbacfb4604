from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.errors import StorageError
from engine.training.ema import Average
from engine.training.tensors import flatten, pack, unflatten, unpack


def parameter(*values: float, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes()


def averages(average: Average) -> dict[str, Tensor]:
    found: dict[str, Tensor] = average.state()["averages"]
    return found


def reference(start: float, values: list[float], decay: float) -> float:
    mean = start
    for n, value in enumerate(values, start=1):
        d = min(decay, (1 + n) / (10 + n))
        mean = d * mean + (1 - d) * value
    return mean


@settings(max_examples=50)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40), st.floats(0.01, 0.9999))
def test_the_formula(values: list[float], decay: float) -> None:
    weight = parameter(values[0], 3.0)
    average = Average({"w": weight}, decay)
    for value in values:
        with torch.no_grad():
            weight[0] = value
        average.update()
    found = averages(average)["w"].tolist()
    assert found[0] == pytest.approx(reference(values[0], values, decay), rel=1e-5, abs=1e-5)
    assert found[1] == 3.0, "a weight that stays is its own average, to the last bit"


def test_early_steps_count_more() -> None:
    weight = parameter(0.0)
    average = Average({"w": weight}, 0.9999)
    with torch.no_grad():
        weight.fill_(1.0)
    average.update()
    assert averages(average)["w"].item() == pytest.approx(1 - 2 / 11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_weights_do_not_stall_or_drift(dtype: torch.dtype) -> None:
    moved, still = parameter(1.0, dtype=dtype), parameter(0.1, dtype=dtype)
    average = Average({"moved": moved, "still": still}, 0.9999)
    average.state()
    average.load({"count": 10**6, "averages": averages(average)})  # past the warm-up
    with torch.no_grad():
        moved.fill_(2.0)
    for _ in range(2000):
        average.update()
    found = averages(average)
    assert found["moved"].dtype == torch.float32
    assert found["moved"].item() == pytest.approx(2 - 0.9999**2000, rel=1e-4)
    assert found["still"].item() == still.float().item()


def test_float64_keeps_its_width() -> None:
    weight = parameter(0.1, dtype=torch.float64)
    average = Average({"w": weight}, 0.5)
    average.update()
    assert bits(averages(average)["w"]) == bits(weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_swapped_and_back_to_the_last_bit(dtype: torch.dtype) -> None:
    weight = parameter(1.0, -0.0, math.nan, math.inf, 1e-40, dtype=dtype)
    average, raw, place = Average({"w": weight}, 0.9), bits(weight), weight.data_ptr()
    with torch.no_grad():
        weight[0] = 3.0
    average.update()
    changed, mean = bits(weight), averages(average)["w"].clone()
    with average.swapped():
        assert bits(weight) == bits(mean.to(dtype)) and bits(weight) not in (raw, changed)
        assert weight.data_ptr() == place, "other views of the weights see it"
        with torch.no_grad():
            weight.zero_()  # whatever happens to them meanwhile
    assert bits(weight) == changed and weight.requires_grad
    assert bits(averages(average)["w"]) == bits(mean)
    with pytest.raises(KeyError), average.swapped():
        raise KeyError
    assert bits(weight) == changed


def test_misuse() -> None:
    average = Average({"w": parameter(1.0)}, 0.9)
    with average.swapped():
        with pytest.raises(RuntimeError, match=r"inside swapped\(\)"):
            average.update()
        with pytest.raises(RuntimeError, match="open already"), average.swapped():
            pass
    average.update()


def test_no_parameters() -> None:
    average = Average({}, 0.9)
    average.update()
    with average.swapped():
        assert averages(average) == {}


def test_a_state_that_is_loaded_goes_on_the_same() -> None:
    weight = parameter(0.0, 1.0)
    straight = Average({"w": weight}, 0.99)
    for step in range(10):
        if step == 5:
            tensors, plain = flatten(straight.state())
            kept = unflatten(unpack(bytes(pack(tensors))), json.loads(json.dumps(plain)))
            resumed = Average({"w": weight}, 0.99)
            resumed.load(kept)
        with torch.no_grad():
            weight.add_(torch.tensor([0.1, -0.3]))
        straight.update()
        if step >= 5:
            resumed.update()
    assert bits(averages(straight)["w"]) == bits(averages(resumed)["w"])
    assert straight.state()["count"] == resumed.state()["count"] == 10


def test_a_state_of_others_is_refused() -> None:
    average = Average({"w": parameter(1.0)}, 0.9)
    with pytest.raises(StorageError, match=r"^there: .*missing: w; unexpected: v"):
        average.load({"count": 1, "averages": {"v": torch.ones(1)}}, "there")
    with pytest.raises(StorageError, match="of another shape: w"):
        average.load({"count": 1, "averages": {"w": torch.ones(2)}})
    with pytest.raises(StorageError, match="holds no average of the weights"):
        average.load({})
    assert average.state()["count"] == 0 and averages(average)["w"].item() == 1
