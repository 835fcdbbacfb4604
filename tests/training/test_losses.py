from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from engine.training import losses
from engine.training.losses import LOSSES
from engine.training.method import Targets

NAMES = sorted(LOSSES)


@pytest.fixture(params=[1, 3, 1024])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "BLOCK", request.param)


class Case:
    """A batch with everything that a loss may be differentiated by."""

    def __init__(
        self, count: int, owners: list[int] | None = None, seed: int = 0, scale: float = 12.0
    ) -> None:
        random = torch.Generator().manual_seed(seed)
        images, texts = (torch.randn(count, 6, generator=random, dtype=torch.float64) for _ in range(2))
        self.images, self.texts = (torch.nn.functional.normalize(side, dim=-1) for side in (images, texts))
        self.scale, self.bias = torch.tensor(scale), torch.tensor(-3.0)
        self.weights = torch.rand(count, generator=random) + 0.1
        self.owners = torch.tensor(owners if owners is not None else list(range(count)))

    def leaves(self, dtype: torch.dtype) -> list[Tensor]:
        given = (self.images, self.texts, self.scale, self.bias)
        return [value.to(dtype, copy=True).requires_grad_() for value in given]

    def targets(self) -> Targets:
        return Targets(self.owners, torch.zeros_like(self.owners), self.weights, seed=0)

    def run(self, name: str, *cuts: slice, dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[Tensor]]:
        """The sum of the shares, and its gradients by images, texts, scale and bias."""
        leaves = self.leaves(dtype)
        loss = sum((LOSSES[name](*leaves, self.targets(), cut) for cut in cuts), torch.zeros(()))
        loss.backward()
        return loss.detach(), gradients(leaves)

    def naive(self, name: str) -> tuple[Tensor, list[Tensor]]:
        leaves = self.leaves(torch.float64)
        loss = NAIVE[name](*leaves, self.owners.tolist(), self.weights.double())
        loss.backward()
        return loss.detach(), gradients(leaves)


def gradients(leaves: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]


def naive_nce(
    images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, owners: list[int], weights: Tensor
) -> Tensor:
    return naive_positives(images, texts, scale, bias, list(range(len(owners))), weights)


def naive_sigmoid(
    images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, owners: list[int], weights: Tensor
) -> Tensor:
    total, count = torch.zeros((), dtype=torch.float64), len(owners)
    for i in range(count):
        for j in range(count):
            label = 1 if i == j else -1
            cost = -torch.log(torch.sigmoid(label * (scale * images[i] @ texts[j] + bias)))
            total = total + (weights[i] + weights[j]) / 2 * cost
    return total / weights.sum()


def naive_positives(
    images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, owners: list[int], weights: Tensor
) -> Tensor:
    """Term by term as the formula is written."""
    total, count = torch.zeros((), dtype=torch.float64), len(owners)
    for queries, keys in ((images, texts), (texts, images)):
        for i in range(count):
            likeness = [torch.exp(scale * queries[i] @ keys[j]) for j in range(count)]
            positives = [j for j in range(count) if owners[j] == owners[i]]
            others = sum(likeness[j] for j in range(count) if owners[j] != owners[i])
            terms = [torch.log(likeness[p] / (likeness[p] + others)) for p in positives]
            total = total - weights[i] / 2 * sum(terms) / len(positives)
    return total / weights.sum()


NAIVE: dict[str, Callable[..., Tensor]] = {
    "infonce": naive_nce,
    "sigmoid": naive_sigmoid,
    "multi_positive": naive_positives,
}

ALL = slice(0, None)


def assert_same(found: tuple[Tensor, list[Tensor]], wanted: tuple[Tensor, list[Tensor]]) -> None:
    torch.testing.assert_close(found[0].double(), wanted[0].double(), rtol=1e-5, atol=1e-6)
    for one, other in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("owners", [None, [0, 1, 0, 2, 1, 0, 3], [4] * 7], ids=["each", "some", "one"])
def test_equal_to_the_formula(name: str, owners: list[int] | None) -> None:
    case = Case(7, owners)
    found = case.run(name, ALL)
    assert found[0].dtype == torch.float32 and found[0].ndim == 0
    assert_same(found, case.naive(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-3, 100.0])
def test_small_and_large_scales(name: str, scale: float) -> None:
    case = Case(9, [0, 0, 1, 2, 3, 4, 5, 5, 5], scale=scale)
    case.weights.fill_(1)
    found, wanted = case.run(name, ALL), case.naive(name)
    torch.testing.assert_close(found[0].double(), wanted[0], rtol=1e-5, atol=1e-5)
    for one, other in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("bias", [None, torch.tensor(-10.0)])
def test_infonce_is_open_clip_s(bias: Tensor | None) -> None:
    case = Case(10)
    images, texts, scale, _ = case.leaves(torch.float32)
    case.weights.fill_(1)
    found = LOSSES["infonce"](images, texts, scale, bias, case.targets(), slice(0, 10))
    theirs = ClipLoss()(images, texts, scale, bias)
    torch.testing.assert_close(found, theirs)
    ours = torch.autograd.grad(found, (images, texts, scale))
    for one, other in zip(ours, torch.autograd.grad(theirs, (images, texts, scale)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("_blocks")
def test_sigmoid_is_open_clip_s() -> None:
    case = Case(10)
    leaves = case.leaves(torch.float32)
    case.weights.fill_(0.5)  # equal weights are no weights
    found, theirs = LOSSES["sigmoid"](*leaves, case.targets(), slice(0, 10)), SigLipLoss()(*leaves)
    torch.testing.assert_close(found, theirs)
    pairs = zip(torch.autograd.grad(found, leaves), torch.autograd.grad(theirs, leaves), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)


def test_sigmoid_without_bias_is_bias_0() -> None:
    case = Case(5)
    images, texts, scale, _ = case.leaves(torch.float32)
    shares = [
        LOSSES["sigmoid"](images, texts, scale, bias, case.targets(), ALL) for bias in (None, scale * 0)
    ]
    torch.testing.assert_close(*shares)


def test_multi_positive_is_infonce_where_images_occur_once() -> None:
    case = Case(8, [5, 2, 9, 0, 1, 3, 4, 7])
    assert_same(case.run("multi_positive", ALL), case.run("infonce", ALL))


def test_captions_of_one_image_do_not_push_each_other_away() -> None:
    """Two equal captions of one image: infonce cannot go below log 2 for them, multi_positive can."""
    case = Case(3, [0, 0, 1])
    case.images = case.texts = torch.eye(6, dtype=torch.float64)[[0, 0, 1]]
    case.scale, case.weights = torch.tensor(100.0), torch.ones(3)
    assert case.run("multi_positive", ALL)[0] < 1e-6
    assert case.run("infonce", ALL)[0] == pytest.approx(2 / 3 * math.log(2), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=25)
def test_shares_over_any_cut_add_up(name: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    owners = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    inner = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    edges = [0, *inner, count]
    cuts = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
    case = Case(count, owners)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "BLOCK", data.draw(st.integers(1, 13)))
        found = case.run(name, *cuts)
    assert_same(found, case.run(name, ALL))


@pytest.mark.parametrize("name", NAMES)
def test_blocks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(11, [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 7])
    whole = case.run(name, slice(0, 11))
    monkeypatch.setattr(losses, "BLOCK", 4)
    assert_same(case.run(name, slice(0, 11)), whole)


@pytest.mark.parametrize("name", NAMES)
def test_weights_count_by_their_share(name: str) -> None:
    """Twice all weights is the same loss; a row of weight 0 has no term, but is a candidate to others."""
    case = Case(6)
    case.weights = torch.tensor([1.0, 2, 0, 1, 2, 1])
    before = case.run(name, ALL)
    case.weights = case.weights * 2
    assert_same(case.run(name, ALL), before)
    if name != "sigmoid":  # whose pairs are charged to either row
        assert case.run(name, slice(2, 3))[0] == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_float32_whatever_comes_in(name: str, dtype: torch.dtype) -> None:
    case = Case(6)
    rounded = Case(6)
    rounded.images, rounded.texts = (side.to(dtype).double() for side in (case.images, case.texts))
    loss, found = case.run(name, ALL, dtype=dtype)
    assert loss.dtype == torch.float32 and {value.dtype for value in found} == {dtype}
    torch.testing.assert_close(loss.double(), rounded.naive(name)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("name", NAMES)
def test_float32_under_autocast(name: str) -> None:
    case = Case(6)
    plain = case.run(name, ALL)
    leaves = case.leaves(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = LOSSES[name](*leaves, case.targets(), ALL)
    loss.backward()
    assert_same((loss.detach(), gradients(leaves)), plain)


@pytest.mark.parametrize("name", NAMES)
def test_one_pair_and_no_rows(name: str) -> None:
    case = Case(1)
    assert_same(case.run(name, ALL), case.naive(name))
    leaves = Case(3).leaves(torch.float32)
    assert LOSSES[name](*leaves, Case(3).targets(), slice(2, 2)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_number_is_told(name: str) -> None:
    case = Case(4)
    case.images[1, 0] = math.nan
    assert case.run(name, ALL)[0].isnan()


class Held(TorchDispatchMode):
    """Watches the memory that operations return: the largest piece, and what is alive together."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.peak = 0, 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                self.largest = max(self.largest, storage.nbytes())
        self.peak = max(self.peak, self.alive())
        return out

    def alive(self) -> int:
        self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
        return sum(size for _, size in self._alive.values())


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_that_of_a_block(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pass holds B x B numbers at any time; between the two no block is kept."""
    count, block = 512, 16
    monkeypatch.setattr(losses, "BLOCK", block)
    case = Case(count, list(np.arange(count) // 3))
    leaves, one = case.leaves(torch.float32), 4 * block * count
    with Held() as held:
        loss = LOSSES[name](*leaves, case.targets(), slice(0, count))
        kept = held.alive()
        loss.backward()
    assert kept < 2 * one, "the forward pass keeps the logits of its 32 blocks"
    assert held.largest <= 2 * one  # positions are int64
    assert held.peak < 8 * one < 4 * count * count


def test_registered_by_the_recipe_s_names() -> None:
    from engine.recipe.finetune import Finetune

    assert set(LOSSES) == set(Finetune.model_fields["loss"].annotation.__args__)  # type: ignore[union-attr]
