"""Pies of caption difficulty."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from engine.maps.shares import draw_shares
from tests.maps.hostile import HOSTILE

EASY, MEDIUM, HARD = (168, 213, 162), (242, 193, 78), (181, 71, 60)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3)


def test_areas_are_the_shares() -> None:
    drawn = pixels(draw_shares(["a"], np.array([[0.5, 0.3, 0.2]]), "Difficulty"))
    counts = np.array([(drawn == colour).all(axis=1).sum() for colour in (EASY, MEDIUM, HARD)])
    np.testing.assert_allclose(counts / counts.sum(), [0.5, 0.3, 0.2], atol=0.03)


def test_a_kind_without_pairs_has_no_pie() -> None:
    for nothing in ([0.0, 0, 0], [np.nan] * 3):
        one = pixels(draw_shares(["a", "b"], np.array([[1.0, 0, 0], nothing]), "Difficulty"))
        two = pixels(draw_shares(["a", "b"], np.array([[1.0, 0, 0], [1.0, 0, 0]]), "Difficulty"))
        pies = [(each == EASY).all(axis=1).sum() for each in (one, two)]
        assert 1.7 < pies[1] / pies[0] < 2.1


def test_the_same_bytes_and_any_names() -> None:
    shares = np.full((len(HOSTILE), 3), 1 / 3)
    assert draw_shares(HOSTILE, shares, HOSTILE[0]) == draw_shares(HOSTILE, shares, HOSTILE[0])


@pytest.mark.parametrize("shares", [np.zeros((0, 3)), np.zeros((1, 2)), np.zeros((2, 3))])
def test_shares_of_another_shape(shares: np.ndarray) -> None:
    with pytest.raises(ValueError, match="they are"):
        draw_shares(["a"], shares, "Difficulty")
