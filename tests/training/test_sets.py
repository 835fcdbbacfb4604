"""Similarities of sets and shared terms, against the formulas written as loops in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.training import sets
from engine.training.method import Targets
from tests.training import naive
from tests.training.batches import Largest, cuts, same, targets, unit_vectors, vectors

#: Pairs 0 and 3 are of one image, as 2 and 4 are.
OWNERS, WEIGHTS = [7, 3, 9, 7, 9, 1], [1.0, 0.5, 2.0, 1.5, 0.25, 1.0]
CHAMFER = partial(sets.smooth_chamfer, sharpness=16.0)


@pytest.mark.parametrize(("many", "other"), [(1, 1), (3, 3), (2, 4)])
def test_similarities_equal_their_formulas(many: int, other: int) -> None:
    x, y = unit_vectors(4, many, 5), unit_vectors(3, other, 5, seed=1)
    same(sets.max_over_pairs, partial(naive.matrix, naive.max_over_pairs), x, y)
    for sharpness in (1.0, 16.0):
        same(
            partial(sets.smooth_chamfer, sharpness=sharpness),
            partial(naive.matrix, partial(naive.smooth_chamfer, a=sharpness)),
            x,
            y,
        )


def test_smooth_chamfer_s_known_values() -> None:
    one = unit_vectors(3, 1, 5)
    torch.testing.assert_close(CHAMFER(one, one).diagonal(), torch.ones(3, dtype=torch.float64))
    # Sets of one vector repeated lie log K / a above it; opposite vectors have -1.
    four, two = one.expand(3, 4, 5), one.expand(3, 2, 5)
    offset = (torch.tensor(4.0).log() + torch.tensor(2.0).log()) / 32
    torch.testing.assert_close(CHAMFER(four, two).diagonal(), (1 + offset).double().expand(3))
    torch.testing.assert_close(CHAMFER(one, -one).diagonal(), -torch.ones(3, dtype=torch.float64))
    # The sharper, the nearer to Chamfer: the mean of each vector's best cosine.
    x, y = unit_vectors(2, 3, 5), unit_vectors(2, 4, 5, seed=1)
    cosines = torch.einsum("nkd,mld->nkml", x, y)
    chamfer = (cosines.amax(3).mean(1) + cosines.amax(1).mean(2)) / 2
    torch.testing.assert_close(sets.smooth_chamfer(x, y, 1e5), chamfer, atol=1e-4, rtol=0)


@given(st.permutations(range(4)), st.permutations(range(3)), st.integers(0, 100))
@settings(max_examples=25)
def test_the_order_within_a_set_does_not_matter(one: list[int], other: list[int], seed: int) -> None:
    x, y = unit_vectors(3, 4, 5, seed=seed), unit_vectors(2, 3, 5, seed=seed + 1)
    for similarity in (sets.max_over_pairs, CHAMFER):
        torch.testing.assert_close(similarity(x[:, one], y[:, other]), similarity(x, y))
        torch.testing.assert_close(similarity(y, x).T, similarity(x, y))
    torch.testing.assert_close(sets.diversity(x[:, one]), sets.diversity(x))
    torch.testing.assert_close(sets.uniformity(x[:, one]), sets.uniformity(x))


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("owners", [OWNERS, list(range(6))])
def test_triplets(hardest: bool, owners: list[int]) -> None:
    told = targets(owners, WEIGHTS)

    def share(x: Tensor, y: Tensor) -> Tensor:
        return sets.triplet(x, y, CHAMFER, told, slice(0, 6), 0.2, hardest)

    def formula(x: Tensor, y: Tensor) -> Tensor:
        scores = naive.matrix(partial(naive.smooth_chamfer, a=16.0), x, y)
        return naive.triplet(scores, told, 0.2, hardest)

    same(share, formula, unit_vectors(6, 2, 3), unit_vectors(6, 2, 3, seed=1))


def test_pairs_of_one_image_are_no_negatives_of_each_other() -> None:
    x, y = unit_vectors(4, 2, 3).requires_grad_(), unit_vectors(4, 2, 3, seed=1)
    for hardest in (True, False):
        told = targets([5, 5, 5, 5])
        share = sets.triplet(x, y, sets.max_over_pairs, told, slice(0, 4), 1.0, hardest)
        (gradient,) = torch.autograd.grad(share, x)
        assert share == 0 and torch.equal(gradient, torch.zeros_like(x))


@pytest.mark.parametrize("many", [1, 3])
def test_mmd(many: int) -> None:
    x, y = vectors(4, many, 3), vectors(4, many, 3, seed=1)
    y[2] = x[1]  # a distance of 0, between the sides
    same(lambda x, y: sets.mmd(x, y, slice(0, 4)), naive.mmd, x, y)
    assert float(sets.mmd(x, x, slice(0, 4))) == pytest.approx(0, abs=1e-12)
    assert float(sets.mmd(x, x[[2, 0, 3, 1]], slice(0, 4))) == pytest.approx(0, abs=1e-12)
    assert float(sets.mmd(x, x + 5, slice(0, 4))) > 0.3


def test_mmd_of_equal_vectors_has_a_gradient() -> None:
    # From 26 vectors on torch computes distances by products, in which equal ones are only nearly so.
    x = unit_vectors(1, 1, 16, dtype=torch.float32).repeat(40, 2, 1).requires_grad_()
    y = unit_vectors(40, 2, 16, seed=1, dtype=torch.float32).requires_grad_()
    share = sets.mmd(x, y, slice(0, 40))
    share.backward()
    assert x.grad is not None and y.grad is not None
    exact = [each.detach().double().requires_grad_() for each in (x, y)]
    sets.mmd(*exact, slice(0, 40)).backward()
    torch.testing.assert_close(share.double(), sets.mmd(*exact, slice(0, 40)), atol=1e-3, rtol=0)
    for mine, exactly in zip((x, y), exact, strict=True):
        torch.testing.assert_close(mine.grad, exactly.grad.float(), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("many", [2, 3, 5])
def test_terms_of_one_set(many: int) -> None:
    x = vectors(4, many, 6)
    same(sets.diversity, lambda x: torch.stack([naive.diversity(each) for each in x]), x)
    same(sets.uniformity, lambda x: torch.stack([naive.uniformity(each) for each in x]), x)


def test_terms_of_one_set_at_their_ends() -> None:
    alike, apart = vectors(1, 1, 4).expand(2, 3, 4), 5 * torch.eye(4, dtype=torch.float64)[None, :3]
    assert sets.diversity(alike).tolist() == pytest.approx([6**0.5 / 9] * 2)
    assert sets.uniformity(alike).tolist() == pytest.approx([1.0] * 2)
    for term in (sets.diversity, sets.uniformity):
        for x in (alike, apart, vectors(2, 1, 4)):
            own = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(term(own).sum(), own)
            assert gradient.isfinite().all()
        assert term(vectors(2, 1, 4)).tolist() == [0, 0], "one vector alone"
    assert sets.diversity(apart).tolist() == [0]


def shares(x: Tensor, y: Tensor, told: Targets, rows: slice) -> Tensor:
    """All the shared terms for some rows."""
    if rows.start == rows.stop:
        return x.new_zeros(4)
    values = sets.diversity(x[rows])
    return torch.stack(
        [
            sets.triplet(x, y, sets.max_over_pairs, told, rows, 0.1),
            sets.triplet(x, y, CHAMFER, told, rows, 0.1, hardest=False),
            sets.mmd(x, y, rows),
            sets.weighted_mean(values, told, rows),
        ]
    )


def test_shares_add_up() -> None:
    x, y, told = unit_vectors(6, 2, 3), unit_vectors(6, 2, 3, seed=1), targets(OWNERS, WEIGHTS)
    whole = shares(x, y, told, slice(0, 6))
    assert (whole > 0).all()
    for cut in cuts(6):
        added = sum(shares(x, y, told, rows) for rows in cut)
        torch.testing.assert_close(added, whole, atol=1e-14, rtol=1e-13)


@pytest.mark.parametrize("scores", [1, 30, 100])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, scores: int) -> None:
    x, y, told = unit_vectors(6, 2, 3), unit_vectors(6, 2, 3, seed=1), targets(OWNERS, WEIGHTS)

    def terms(x: Tensor, y: Tensor) -> Tensor:
        return shares(x, y, told, slice(1, 6))

    def in_blocks(x: Tensor, y: Tensor) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(sets, "SCORES", scores)
            return terms(x, y)

    same(in_blocks, terms, x, y, tolerance=1e-13)
    whole = sets.all_pairs(CHAMFER, x, y)
    monkeypatch.setattr(sets, "SCORES", scores)
    torch.testing.assert_close(sets.all_pairs(CHAMFER, x, y), whole)


def test_no_block_holds_more_scores_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "SCORES", 5000)
    x, y = (unit_vectors(64, 5, 4, seed=seed).requires_grad_() for seed in (0, 1))
    told = targets(list(range(64)))
    for term in (
        lambda: sets.triplet(x, y, sets.max_over_pairs, told, slice(0, 64), 0.1),
        lambda: sets.triplet(x, y, CHAMFER, told, slice(0, 64), 0.1),
        lambda: sets.mmd(x, y, slice(0, 64)),
    ):
        with Largest() as held:
            term().backward()
        # Without blocks it would be 102,400; the batch itself has 1,280.
        assert 1280 <= held.elements <= 5000


def test_similarity_of_none() -> None:
    x = unit_vectors(3, 2, 4)
    assert sets.all_pairs(sets.max_over_pairs, x[:0], x).shape == (0, 3)
    assert sets.all_pairs(sets.max_over_pairs, x, x[:0]).shape == (3, 0)


def test_a_score_that_is_no_number_is_not_hidden() -> None:
    x, y = unit_vectors(4, 2, 3), unit_vectors(4, 2, 3, seed=1)
    x[2, 1, 0] = torch.nan
    told = targets([0, 1, 2, 3])
    assert sets.triplet(x, y, sets.max_over_pairs, told, slice(0, 1), 0.1).isnan()
