"""Cosines are exact, and the same however they are asked for."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.retrieval.cosines import Cosines
from engine.retrieval.ranks import Matches, Standings, ranks


def unit(*shape: int, seed: int, dtype: str = "float32") -> NDArray[Any]:
    vectors = np.random.default_rng(seed).standard_normal(shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_no_bit_is_lost(dtype: str) -> None:
    images, texts = unit(7, 300, seed=0, dtype=dtype), unit(9, 300, seed=1, dtype=dtype)
    found = Cosines(images, texts)(slice(0, 7), slice(0, 9))
    for row in range(7):
        for column in range(9):
            exact = sum(
                (
                    Fraction(round(float(a) * 2**25), 2**25) * Fraction(round(float(b) * 2**25), 2**25)
                    for a, b in zip(images[row], texts[column], strict=True)
                ),
                Fraction(),
            )
            assert Fraction(float(found[row, column])) == exact
    plain = images.astype(np.float64) @ texts.astype(np.float64).T
    np.testing.assert_allclose(found.numpy(), plain, atol=2e-7)


def test_float16_is_taken_as_it_is() -> None:
    images, texts = unit(5, 64, seed=2, dtype="float16"), unit(6, 64, seed=3, dtype="float16")
    found = Cosines(images, texts)(slice(0, 5), slice(0, 6))
    assert torch.equal(found, torch.from_numpy(images).double() @ torch.from_numpy(texts).double().T)


def test_blocks_cut_otherwise_give_the_same_bits() -> None:
    images, texts = unit(60, 384, seed=4), unit(90, 384, seed=5)
    texts[50] = texts[3]  # equal items, which must stay equal
    cosines = Cosines(images, texts)
    whole = cosines(slice(0, 60), slice(0, 90))
    pieces = torch.cat([cosines(slice(row, row + 1), slice(0, 90)) for row in range(60)])
    assert torch.equal(whole, pieces) and torch.equal(whole[:, 50], whole[:, 3])
    matches = Matches(np.arange(60), np.arange(60))
    first = ranks(cosines, matches, 60, 90, (7, 11))
    again = ranks(cosines, matches, 60, 90, (60, 90))
    np.testing.assert_array_equal(first.image_to_text, again.image_to_text)
    np.testing.assert_array_equal(first.text_to_image, again.text_to_image)


def near(seed: int, images: int, texts: int, width: int, kinds: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Vectors of few kinds, moved by about as much as float32 rounds: most similarities are near ties."""
    rng = np.random.default_rng(seed)
    some = unit(kinds, width, seed=seed)
    found = []
    for count in (images, texts):
        rows = some[rng.integers(kinds, size=count)] + 1e-7 * rng.standard_normal((count, width)).astype(
            np.float32
        )
        found.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return found[0], found[1]


class Watched(Cosines):
    """Counts what is asked of it."""

    blocks = coarse_blocks = pairs = 0

    def __call__(self, rows: slice, columns: slice) -> torch.Tensor:
        self.blocks += 1
        return super().__call__(rows, columns)

    def coarse(self, rows: slice, columns: slice) -> torch.Tensor:
        self.coarse_blocks += 1
        return super().coarse(rows, columns)

    def exact(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        self.pairs += len(images)
        return super().exact(images, texts)


@pytest.mark.parametrize("kinds", [1, 3, 400])
@pytest.mark.parametrize("first", [(0, 0), (7, 11)])
def test_what_float32_leaves_in_doubt_is_settled(kinds: int, first: tuple[int, int]) -> None:
    images, texts = near(kinds, 50, 120, 96, kinds)
    owners = np.random.default_rng(0).integers(50, size=24)
    matches = Matches(owners + first[0], np.arange(0, 120, 5) + first[1])
    cosines = Watched(images, texts, first=first)
    own = cosines.exact(torch.from_numpy(matches.images), torch.from_numpy(matches.texts))
    rows, columns = slice(first[0], first[0] + 50), slice(first[1], first[1] + 120)
    bounded, plain = Standings(matches, own), Standings(matches, own)
    bounded.count(cosines, rows, columns, (16, 32))
    asked = cosines.blocks, cosines.coarse_blocks, cosines.pairs - 24
    plain.count(lambda r, c: cosines(r, c), rows, columns, (50, 120))
    np.testing.assert_array_equal(bounded.ahead, plain.ahead)
    if kinds == 400:
        assert asked[0] < asked[1] and asked[2] > 0, "some blocks are settled pair by pair"
    if kinds == 1:
        assert asked == (16, 16, 0), "where all is in doubt, all is computed without rounding"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("width", [1, 4, 512, 3000])
def test_the_bound_of_the_error_holds(dtype: str, width: int) -> None:
    images, texts = unit(40, width, seed=1, dtype=dtype), np.abs(unit(60, width, seed=2, dtype=dtype))
    images[:20] = np.abs(images[:20])  # sums that only grow, which round the most
    cosines, whole = Cosines(images, texts), (slice(0, 40), slice(0, 60))
    off = (cosines.coarse(*whole).double() - cosines(*whole)).abs().max()
    assert off <= cosines.error < 1e-6 * (width + 10)


def test_of_sets_the_nearest_counts() -> None:
    images, texts = unit(4, 3, 32, seed=6), unit(5, 2, 32, seed=7)
    found = Cosines(images, texts)(slice(1, 4), slice(0, 5))
    every = np.einsum("ikd,jld->ijkl", images.astype(np.float64), texts.astype(np.float64))
    np.testing.assert_allclose(found.numpy(), every.max(axis=(2, 3))[1:], atol=1e-6)
    one = Cosines(images, texts[:, 0])(slice(0, 4), slice(0, 5))
    np.testing.assert_allclose(one.numpy(), every[..., 0].max(axis=2), atol=1e-6)


def test_nothing_to_compare() -> None:
    assert Cosines(unit(0, 8, seed=0), unit(3, 8, seed=0))(slice(0, 0), slice(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("images", "texts", "said"),
    [
        (unit(2, 8, seed=0), unit(2, 9, seed=0), "images have 8 components and texts 9: other encoders"),
        (2 * unit(2, 8, seed=0), unit(2, 8, seed=0), "a vector has length 2; cosines are of vectors"),
        (np.ones((2, 8), np.int64), unit(2, 8, seed=0), "floating-point numbers, not torch.int64"),
    ],
)
def test_what_is_no_direction_is_refused(images: NDArray[Any], texts: NDArray[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Cosines(images, texts)
