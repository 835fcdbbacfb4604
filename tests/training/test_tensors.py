from __future__ import annotations

import json
import math
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as library_load
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import StorageError
from engine.training.tensors import flatten, pack, take, unflatten, unpack

TYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same(one: Any, two: Any) -> bool:
    """Equal to the last bit, and of the same types."""
    if type(one) is not type(two):
        return False
    if isinstance(one, Tensor):
        return one.dtype == two.dtype and one.shape == two.shape and bits(one) == bits(two)
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", two)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return same(list(one.items()), list(two.items()))
    return bool(one == two)


def through_files(tree: Any) -> Any:
    tensors, plain = flatten(tree)
    text = json.dumps(plain, allow_nan=False)
    return unflatten(unpack(bytes(pack(tensors))), json.loads(text))


@st.composite
def some_tensor(draw: st.DrawFn) -> Tensor:
    dtype, shape = draw(st.sampled_from(TYPES)), draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape) * dtype.itemsize
    data = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if not size:
        return torch.empty(shape, dtype=dtype)
    if dtype == torch.bool:
        data = bytearray(byte & 1 for byte in data)
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys = plain | st.sampled_from(["$tensor", "$tuple", "$pairs", "$"]) | st.tuples(st.integers(), st.text())
trees = st.recursive(
    plain | some_tensor(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=100)
@given(trees)
def test_any_tree_comes_back_to_the_last_bit(tree: Any) -> None:
    assert same(through_files(tree), tree)


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_shape_and_stride(dtype: torch.dtype) -> None:
    base = torch.arange(24).to(dtype).reshape(4, 6)
    tree = {
        "as it is": base,
        "transposed": base.T,
        "strided": base[::2, 1::3],
        "expanded": base[:1].expand(3, 6),
        "empty": base[:0],
        "one number": base[1, 2],
        "the same again": [base, base.view(-1)[3:]],
    }
    assert same(through_files(tree), tree)


def test_numbers_that_equality_does_not_tell_apart() -> None:
    payload = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]
    values = [0.0, -0.0, math.nan, payload, math.inf, -math.inf, 5e-324, 0.1, True, 1, 1.0, 10**30, "1"]
    assert same(through_files(values), values)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.tensor([0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf, 1e-40], dtype=dtype)
        assert same(through_files(tensor), tensor)
    signalling = torch.tensor([0x7F800001, -0x7FFFFF], dtype=torch.int32).view(torch.float32)
    assert same(through_files(signalling), signalling)


def test_lazy_conjugates_and_signs_are_computed() -> None:
    number = torch.tensor([1 + 2j, -3 - 4j], dtype=torch.complex64)
    tree = {"conjugate": number.conj(), "imaginary": number.conj().imag}
    found = through_files(tree)
    assert found["conjugate"].tolist() == [1 - 2j, -3 + 4j] and found["imaginary"].tolist() == [-2.0, 4.0]


def test_subclasses_come_back_as_what_they_derive_from() -> None:
    weight = nn.Parameter(torch.ones(2))
    found = through_files(OrderedDict(a=np.float64(0.1), b=torch.Size([2, 3]), c=weight))
    assert same(found, {"a": 0.1, "b": (2, 3), "c": torch.ones(2)})
    assert type(found["c"]) is Tensor and not found["c"].requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: torch.optim.AdamW(weights, lr=1e-3, betas=(0.9, 0.98), amsgrad=True),
        lambda weights: torch.optim.Adam([{"params": weights[:1], "lr": 0.1}, {"params": weights[1:]}]),
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True),
        lambda weights: torch.optim.LBFGS(weights, max_iter=2),
    ],
)
def test_states_of_optimisers(make: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make(list(model.parameters()))

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = model(torch.ones(4, 3)).pow(2).sum()
        value.backward()
        return value  # type: ignore[no-any-return]

    optimizer.step(loss)
    state = optimizer.state_dict()
    assert same(through_files(state), state)


def test_other_readers_read_it(tmp_path: Path) -> None:
    tensors = {"b.weight": torch.randn(3, 5), "a": torch.tensor(True), "half": torch.ones(3).bfloat16()}
    data = pack(tensors)
    assert bytes(pack(dict(reversed(tensors.items())))) == bytes(data), "whatever the order"
    (tmp_path / "ours.safetensors").write_bytes(data)
    save_file(tensors, tmp_path / "theirs.safetensors")
    ours, theirs = load_file(tmp_path / "ours.safetensors"), load_file(tmp_path / "theirs.safetensors")
    assert ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in theirs)
    assert library_load(bytes(pack({}))) == {}


def test_it_is_a_copy() -> None:
    weights = torch.ones(1000)
    data = pack({"w": weights})
    weights.zero_()
    assert unpack(bytes(data))["w"].sum() == 1000


def test_what_cannot_be_kept_is_named() -> None:
    with pytest.raises(TypeError, match=r"^/optimizer/state/0/seen: set cannot be kept"):
        flatten({"optimizer": {"state": {0: {"seen": {1}}}}})
    for value in (np.ones(2), np.int64(3), b"x", object(), len, torch.float32, 1j):
        with pytest.raises(TypeError, match=r"^/1: .* cannot be kept"):
            flatten([0, value])
    with pytest.raises(TypeError, match="Parameter cannot be a key"):
        flatten({nn.Parameter(torch.ones(1)): 1})
    for tensor in (torch.eye(2).to_sparse(), torch.ones(1, dtype=torch.complex128)):
        with pytest.raises(TypeError, match=r"^w: a tensor of .* cannot be kept"):
            pack({"w": tensor})


def test_a_file_cut_anywhere_is_refused() -> None:
    data = bytes(pack({"a": torch.ones(3), "b": torch.ones(2, 2, dtype=torch.int8)}))
    for size in range(len(data)):
        with pytest.raises(ValueError, match="no safetensors file"):
            unpack(data[:size])
    with pytest.raises(ValueError, match="no safetensors file"):
        unpack(data + b"x")
    with pytest.raises(ValueError, match="no safetensors file"):
        unpack(b"\xff" * 64)


def test_a_tree_without_its_tensor() -> None:
    tensors, plain = flatten({"a": torch.ones(1)})
    with pytest.raises(ValueError, match="tensor '0/a' is missing"):
        unflatten({}, plain)
    assert tensors.keys() == {"0/a"}


def test_take_is_strict_and_all_or_nothing() -> None:
    own = {name: torch.zeros(2) for name in "abcdefgh"}
    good = {name: torch.full((2,), math.nan) for name in own}
    with pytest.raises(StorageError, match=r"^here: .*missing: a; unexpected: z\)"):
        take(own, {**{n: v for n, v in good.items() if n != "a"}, "z": torch.ones(1)}, "here")
    with pytest.raises(StorageError, match=r"of another shape: c \(2, 1\) instead of \(2,\)"):
        take(own, {**good, "c": torch.ones(2, 1)}, "here")
    with pytest.raises(StorageError, match="missing: a, b, c, d, e and 3 more"):
        take(own, {}, "here")
    assert all(not value.any() for value in own.values())
    take(own, good, "here")
    assert all(same(own[name], good[name]) for name in own)


def test_take_reaches_parameters_and_their_types() -> None:
    model = nn.Linear(2, 1, bias=False).half()
    take(dict(model.named_parameters()), {"weight": torch.tensor([[1.5, -0.0]])}, "here")
    assert same(model.weight.detach(), torch.tensor([[1.5, -0.0]], dtype=torch.float16))
