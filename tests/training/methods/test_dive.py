"""`dive` against its formulas (METHODS B12), in loops and float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from engine.training.backbone import Seen
from engine.training.methods.dive import Dive
from engine.training.methods.slots import Slots
from tests.training import naive
from tests.training.batches import same, targets, unit_vectors, vectors
from tests.training.tiny import load, pixels, settings, write_clip

OWNERS, WEIGHTS = [7, 3, 9, 7, 1], [1.0, 0.5, 2.0, 1.5, 0.25]


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> Dive:
    clip = write_clip(tmp_path_factory.mktemp("clip"))
    torch.manual_seed(2)
    return Dive(load(clip), settings(clip, "dive"))


def normed(norm: nn.LayerNorm, row: Tensor) -> Tensor:
    return naive.layer_norm(row, norm.weight, norm.bias)


def attended(module: Slots, slots: list[Tensor], tokens: Tensor) -> list[Tensor]:
    """One round of attention, head by head, slot by slot, token by token."""
    of, width = module.attention, len(slots[0])
    inputs = [normed(of.token_norm, token) for token in tokens]
    queries = [of.query.weight @ normed(of.slot_norm, slot) for slot in slots]
    keys, values = [of.key.weight @ x for x in inputs], [of.value.weight @ x for x in inputs]
    joined = [[] for _ in slots]  # type: list[list[Tensor]]
    for head in range(4):
        part = slice(head * width, (head + 1) * width)
        shares = torch.zeros(len(slots), len(inputs), dtype=torch.float64)
        for j, key in enumerate(keys):
            scores = torch.stack([query[part] @ key[part] / width**0.5 for query in queries])
            shares[:, j] = scores.exp() / scores.exp().sum()
        for k in range(len(slots)):
            total = shares[k].sum() + 1e-7
            joined[k].append(sum(shares[k, j] / total * values[j][part] for j in range(len(inputs))))
    return [of.out.weight @ torch.cat(parts) + of.out.bias for parts in joined]


def filled(module: Slots, tokens: Tensor) -> Tensor:
    slots = list(module.first)
    norm, up, _, down = module.feed_forward
    for _ in range(4):
        slots = [slot + found for slot, found in zip(slots, attended(module, slots, tokens), strict=True)]
        hidden = [naive.gelu(up.weight @ normed(norm, slot) + up.bias) for slot in slots]
        slots = [slot + down.weight @ h + down.bias for slot, h in zip(slots, hidden, strict=True)]
    return torch.stack([normed(module.norm, slot) for slot in slots])


@pytest.mark.parametrize("many", [1, 3])
def test_the_slots(many: int) -> None:
    torch.manual_seed(1)
    module = Slots(6, 5, many).double()
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.3 * torch.randn_like(value))
    lengths, tokens = [4, 2], vectors(2, 4, 6, seed=1)
    valid = torch.arange(4) < torch.tensor(lengths)[:, None]
    found = module(Seen(vectors(2, 5), tokens, valid))
    for i, length in enumerate(lengths):
        torch.testing.assert_close(found[i], filled(module, tokens[i, :length]))


def test_the_order_of_tokens_and_slots(method: Dive) -> None:
    module = method.image_head.slots
    tokens, valid = vectors(2, 7, 32, dtype=torch.float32), torch.ones(2, 7, dtype=torch.bool)
    found = module(Seen(vectors(2, 16), tokens, valid))
    order = torch.randperm(7)
    torch.testing.assert_close(module(Seen(vectors(2, 16), tokens[:, order], valid)), found)
    with torch.no_grad():
        module.first.copy_(module.first.flip(0))
        torch.testing.assert_close(module(Seen(vectors(2, 16), tokens, valid)), found.flip(1))
        module.first.copy_(module.first.flip(0))


def test_an_element_is_the_whole_plus_a_slot(method: Dive) -> None:
    seen = method.backbone.see(pixels(3))
    made = method.image_side(pixels(3), torch.zeros(3))
    whole = torch.nn.functional.layer_norm(seen.pooled, (16,))
    sums = whole[:, None] + made["slots"]
    torch.testing.assert_close(made["set"], sums / sums.norm(dim=-1, keepdim=True))
    assert not torch.allclose(made["set"][:, 0], made["set"][:, 1])


@pytest.mark.parametrize("many", [1, 2, 3])
def test_the_loss(method: Dive, many: int) -> None:
    told = targets(OWNERS, WEIGHTS)

    def loss(x: Tensor, y: Tensor, r: Tensor, q: Tensor) -> Tensor:
        return method.loss({"set": x, "slots": r}, {"set": y, "slots": q}, told, slice(0, 5))

    def formula(x: Tensor, y: Tensor, r: Tensor, q: Tensor) -> Tensor:
        scores = naive.matrix(partial(naive.smooth_chamfer, a=16.0), x, y)
        total = naive.triplet(scores, told, 0.2, hardest=True) + 0.01 * naive.mmd(x, y)
        if many == 1:
            return total
        crowded = [naive.uniformity(one) + naive.uniformity(other) for one, other in zip(r, q, strict=True)]
        return total + 0.01 * naive.weighted(crowded, told)

    x, y = unit_vectors(5, many, 4), unit_vectors(5, many, 4, seed=1)
    same(loss, formula, x, y, vectors(5, many, 4, seed=2), vectors(5, many, 4, seed=3))


def test_the_similarity(method: Dive) -> None:
    x, y = unit_vectors(5, 2, 4), unit_vectors(3, 2, 4, seed=1)
    found = method.similarity({"set": x}, {"set": y})
    torch.testing.assert_close(found, naive.matrix(partial(naive.smooth_chamfer, a=16.0), x, y))
    one = x[:, :1]
    torch.testing.assert_close(
        method.similarity({"set": one}, {"set": one}).diagonal(), torch.ones(5, dtype=torch.float64)
    )
