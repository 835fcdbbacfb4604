"""Similarities of sets against their formulas in loops, and to the last bit the same in any block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.encoders.own_similarity import (
    Cosine,
    DotProduct,
    MatchingProbability,
    OwnSimilarity,
    SmoothChamfer,
)
from engine.errors import RecipeError
from engine.retrieval import ranks as ranking
from engine.retrieval.ranks import Matches, Standings, ranks
from engine.retrieval.sets import Sets, paired, similarity_of
from engine.retrieval.similarity import Bounded
from tests.retrieval.test_cosines import unit
from tests.retrieval.test_ranks import sorted_ranks
from tests.training import naive

KINDS = [SmoothChamfer(16.0), SmoothChamfer(300.0), MatchingProbability(5.0, 6.0), DotProduct(), Cosine()]


def sets(own: OwnSimilarity, count: int, several: int, width: int, seed: int, dtype: str) -> NDArray[Any]:
    """Unit vectors; or of any length where the similarity takes such, of each item another."""
    vectors = unit(count, several, width, seed=seed, dtype="float64")
    if not own.unit:
        vectors *= np.exp2(np.random.default_rng(seed).uniform(-3, 3, (count, 1, 1)))
    return vectors.astype(dtype)


def formula(own: OwnSimilarity, x: NDArray[Any], y: NDArray[Any]) -> float:
    """As METHODS B12 has it, in loops over single vectors."""
    one, other = (torch.from_numpy(each.astype(np.float64)) for each in (x, y))
    match own:
        case Cosine():
            return float(naive.max_over_pairs(one, other))
        case SmoothChamfer():
            return float(naive.smooth_chamfer(one, other, own.sharpness))
        case MatchingProbability():
            a, b = (torch.tensor(each, dtype=torch.float64) for each in (own.scale, own.shift))
            yes, no = (naive.match(one, other, a, b, m) for m in (1, -1))
            return float(yes.log() - no.log())
        case DotProduct():
            return float(np.mean([u @ v for u in one.numpy() for v in other.numpy()]))


@pytest.mark.parametrize("own", KINDS)
@pytest.mark.parametrize(("k", "j", "width"), [(3, 2, 24), (1, 4, 1), (1, 1, 70)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_formulas(own: OwnSimilarity, k: int, j: int, width: int, dtype: str) -> None:
    x, y = sets(own, 4, k, width, 0, dtype), sets(own, 5, j, width, 1, dtype)
    expected = np.array([[formula(own, u, v) for v in y] for u in x])
    found = similarity_of(own, x, y)(slice(0, 4), slice(0, 5))
    assert found.dtype == torch.float64
    # Vectors are moved to a grid, about as float32 would round them.
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-6, atol=2e-6)
    of_pairs = paired(own, x, y[:4])
    np.testing.assert_array_equal(of_pairs.numpy(), np.diag(found.numpy()))


@pytest.mark.parametrize("own", KINDS)
def test_what_single_vectors_are_compared_by(own: OwnSimilarity) -> None:
    """(n, d) is (n, 1, d); smooth-Chamfer of single vectors is their cosine."""
    x, y = sets(own, 3, 1, 16, 2, "float32"), sets(own, 4, 1, 16, 3, "float32")
    whole = slice(0, 3), slice(0, 4)
    found = similarity_of(own, x[:, 0], y[:, 0])(*whole)
    assert torch.equal(found, similarity_of(own, x, y)(*whole))
    if isinstance(own, SmoothChamfer):
        np.testing.assert_allclose(found.numpy(), (x[:, 0] @ y[:, 0].T), atol=1e-6)


@pytest.mark.parametrize("own", KINDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_pair_has_the_same_bits_in_every_block(own: OwnSimilarity, threads: int) -> None:
    x, y = sets(own, 37, 3, 48, 4, "float32"), sets(own, 53, 2, 48, 5, "float32")
    y[40], x[30] = y[3], x[2]  # equal items, which must stay equal
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        asked = similarity_of(own, x, y)
        whole = asked(slice(0, 37), slice(0, 53))
        for rows, columns in ((1, 53), (37, 1), (5, 7), (16, 8), (36, 52)):
            cut = torch.cat(
                [
                    torch.cat([asked(slice(r, min(r + rows, 37)), slice(c, min(c + columns, 53)))
                               for c in range(0, 53, columns)], dim=1)
                    for r in range(0, 37, rows)
                ]
            )  # fmt: skip
            assert torch.equal(whole, cut)
        moved = similarity_of(own, x[7:30], y[9:50], first=(107, 209))
        assert torch.equal(moved(slice(110, 130), slice(211, 250)), whole[10:30, 11:50])
    finally:
        torch.set_num_threads(before)
    row, column = (torch.arange(37 * 53) // 53, torch.arange(37 * 53) % 53)
    assert isinstance(asked, Bounded)
    assert torch.equal(asked.exact(row, column), whole.flatten())
    for start, stop in ((0, 1), (3, 20), (1, 1961)):
        some = paired(own, x[row[start:stop].numpy()], y[column[start:stop].numpy()])
        assert torch.equal(some, whole.flatten()[start:stop])
    assert torch.equal(whole[:, 40], whole[:, 3]) and torch.equal(whole[30], whole[2])


@pytest.mark.parametrize("own", KINDS)
def test_the_bound_of_the_error_holds(own: OwnSimilarity) -> None:
    asked = similarity_of(own, sets(own, 60, 2, 96, 6, "float16"), sets(own, 80, 3, 96, 7, "float16"))
    assert isinstance(asked, Bounded)
    whole = slice(0, 60), slice(0, 80)
    assert (asked.coarse(*whole).double() - asked(*whole)).abs().max() <= asked.error < 1e-4
    if isinstance(asked, Sets):
        assert asked.error < 1e-7, "little is in doubt"


@pytest.mark.parametrize("own", KINDS)
@pytest.mark.parametrize("doubts", [1, 64])
def test_ranks_are_those_of_sorting(own: OwnSimilarity, doubts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many equal items, settled pair by pair or block by block."""
    monkeypatch.setattr(ranking, "_DOUBTS", doubts)
    rng = np.random.default_rng(8)
    x = sets(own, 9, 2, 12, 9, "float16")[rng.integers(9, size=40)]
    y = sets(own, 11, 3, 12, 10, "float16")[rng.integers(11, size=70)]
    matches = Matches(np.repeat(np.arange(35), 2), np.arange(70))
    expected = similarity_of(own, x, y)(slice(0, 40), slice(0, 70)).numpy()
    for block in ((40, 70), (7, 13), (1, 64)):
        found = ranks(similarity_of(own, x, y), matches, 40, 70, block)
        np.testing.assert_array_equal(found.image_to_text, sorted_ranks(expected, matches))
    pieces = Standings(matches, paired(own, x[matches.images], y[matches.texts]))
    for rows in (slice(0, 13), slice(13, 40)):
        for columns in (slice(0, 31), slice(31, 70)):
            piece = similarity_of(own, x[rows], y[columns], first=(rows.start, columns.start))
            pieces.count(piece, rows, columns)
    np.testing.assert_array_equal(pieces.ranks().image_to_text, found.image_to_text)
    np.testing.assert_array_equal(pieces.ranks().text_to_image, found.text_to_image)


def test_probabilities_near_0_and_1_are_told_apart() -> None:
    """Whose logarithms in float64 are 0, or whose distance from 1 is."""
    x = np.array([[[0.0]]])
    y = np.array([[[0.0]], [[0.001]], [[30.0]], [[31.0]], [[1e4]], [[2e4]]])
    found = similarity_of(MatchingProbability(15.0, 200.0), x, y)(slice(0, 1), slice(0, 6))[0]
    np.testing.assert_allclose(found[:4], 2 * (200 - 15 * np.array([1e-3, 2**0.5 * 1e-3, 30, 31])), rtol=1e-6)
    assert found[4] == found[5] == -700, "beyond that all is one"


def test_nothing_to_compare() -> None:
    for own in KINDS:
        none = similarity_of(own, sets(own, 0, 2, 8, 0, "float32"), sets(own, 3, 2, 8, 0, "float32"))
        assert none(slice(0, 0), slice(0, 3)).shape == (0, 3)
        assert paired(own, *(sets(own, 0, 2, 8, 0, "float32"),) * 2).shape == (0,)


def test_what_cannot_be_compared_is_refused() -> None:
    ones = np.ones((2, 2, 8), np.float32)
    with pytest.raises(ValueError, match="images have 8 components and texts 7: other encoders"):
        similarity_of(DotProduct(), ones, ones[..., :7])
    with pytest.raises(ValueError, match=r"floating-point numbers, not torch\.int64"):
        similarity_of(DotProduct(), ones.astype(np.int64), ones)
    holed = ones.copy()
    holed[1, 0, 3] = np.nan
    for own in (SmoothChamfer(16.0), MatchingProbability(5.0, 6.0), DotProduct()):
        with pytest.raises(ValueError, match="the similarity of image 1 and text 0 is no number"):
            ranks(similarity_of(own, holed, ones), Matches(np.array([0]), np.array([0])), 2, 2)
    for sharpness in (0.0, -1.0, 301.0, float("nan")):
        with pytest.raises(RecipeError, match="is not above 0 and at most 300"):
            SmoothChamfer(sharpness)
    with pytest.raises(RecipeError, match="scale nan and shift 1 must be numbers"):
        MatchingProbability(float("nan"), 1.0)
