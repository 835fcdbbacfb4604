"""`pvse` against its formulas (METHODS B12), in loops and float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.training.backbone import Seen
from engine.training.methods.attention_pool import AttentionPool, Polysemous
from engine.training.methods.pvse import Pvse
from tests.training import naive
from tests.training.batches import same, targets, unit_vectors, vectors
from tests.training.tiny import load, settings, write_clip

OWNERS, WEIGHTS = [7, 3, 9, 7, 1], [1.0, 0.5, 2.0, 1.5, 0.25]


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> Pvse:
    clip = write_clip(tmp_path_factory.mktemp("clip"))
    return Pvse(load(clip), settings(clip, "pvse"))


def pooled(pool: AttentionPool, tokens: Tensor) -> Tensor:
    """(K, d) of (n, d), all of them valid."""
    scores = torch.stack([pool.scores.weight @ torch.tanh(pool.hidden.weight @ token) for token in tokens])
    found = []
    for k in range(scores.shape[1]):
        shares = scores[:, k].exp() / scores[:, k].exp().sum()
        found.append(sum(share * token for share, token in zip(shares, tokens, strict=True)))
    return torch.stack(found)


@pytest.mark.parametrize("many", [1, 3])
def test_the_head(many: int) -> None:
    torch.manual_seed(1)
    head = Polysemous(6, 5, many).double()
    assert head.pool.hidden.weight.shape == (3, 6) and head.pool.scores.weight.shape == (many, 3)
    with torch.no_grad():
        head.norm.weight.add_(vectors(5, seed=8))
        head.norm.bias.add_(vectors(5, seed=9))
        head.residual.bias.add_(vectors(5, seed=7))
    lengths = [4, 2]
    valid = torch.arange(4) < torch.tensor(lengths)[:, None]
    found, residuals = head(Seen(vectors(2, 5), vectors(2, 4, 6, seed=1), valid))
    for i, length in enumerate(lengths):
        means = pooled(head.pool, vectors(2, 4, 6, seed=1)[i, :length])
        for k in range(many):
            residual = 1 / (1 + (-(head.residual.weight @ means[k] + head.residual.bias)).exp())
            torch.testing.assert_close(residuals[i, k], residual)
            expected = naive.layer_norm(vectors(2, 5)[i] + residual, head.norm.weight, head.norm.bias)
            torch.testing.assert_close(found[i, k], expected)


@pytest.mark.parametrize("many", [1, 2, 3])
def test_the_loss(method: Pvse, many: int) -> None:
    told = targets(OWNERS, WEIGHTS)

    def loss(x: Tensor, y: Tensor, r: Tensor, q: Tensor) -> Tensor:
        return method.loss({"set": x, "residual": r}, {"set": y, "residual": q}, told, slice(0, 5))

    def formula(x: Tensor, y: Tensor, r: Tensor, q: Tensor) -> Tensor:
        hinge = naive.triplet(naive.matrix(naive.max_over_pairs, x, y), told, 0.1, hardest=True)
        if many == 1:
            return hinge
        alike = [naive.diversity(one) + naive.diversity(other) for one, other in zip(r, q, strict=True)]
        return hinge + 0.1 * naive.weighted(alike, told) + 0.01 * naive.mmd(x, y)

    x, y = unit_vectors(5, many, 4), unit_vectors(5, many, 4, seed=1)
    same(loss, formula, x, y, vectors(5, many, 4, seed=2), vectors(5, many, 4, seed=3))


def test_the_similarity(method: Pvse) -> None:
    x, y = unit_vectors(5, 2, 4), unit_vectors(3, 2, 4, seed=1)
    residual = torch.zeros(5, 2, 4)
    found = method.similarity({"set": x, "residual": residual}, {"set": y, "residual": residual[:3]})
    torch.testing.assert_close(found, naive.matrix(naive.max_over_pairs, x, y))


def test_one_vector_that_fits_is_enough(method: Pvse) -> None:
    x, y = unit_vectors(2, 3, 8), unit_vectors(2, 3, 8, seed=1)
    y[1, 2] = x[0, 1]
    found = method.similarity({"set": x}, {"set": y})
    assert float(found[0, 1]) == pytest.approx(1)
    assert found.argmax() == 1
