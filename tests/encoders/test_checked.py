"""What an encoder gives, compared with what it says: one of somebody's own may give anything."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.encoders import EncoderName
from engine.encoders.bank import EncoderBank
from engine.encoders.own_similarity import COSINE, DotProduct
from engine.encoders.protocol import Card
from engine.encoders.vectors import checked
from engine.errors import RecipeError
from engine.recipe import Embed
from tests.encoders import own

CARD = Card(4, 1, True, True, 0, 2)


def test_directions_pass_and_what_has_none_is_no_number() -> None:
    rows = np.eye(4)[:3]
    rows[1] = 0
    rows[2] = np.nan
    found = checked("x", rows, 3, CARD, of_texts=False)
    assert found.dtype == np.float32 and np.array_equal(found[0], rows[0])
    assert np.isnan(found[1:]).all()


def test_what_half_precision_left_off_is_scaled() -> None:
    """Else a shorter vector would be farther from everything than a longer one in its direction."""
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = checked("x", rows * np.array([[0.992], [1.008], [1]], np.float32), 3, CARD, of_texts=False)
    np.testing.assert_allclose(found, rows, atol=1e-7)
    assert np.array_equal(found[2], rows[2]), "and what was of length 1 stays what it was"
    assert np.isnan(checked("x", np.full((3, 4), np.inf), 3, CARD, of_texts=False)).all()


@pytest.mark.parametrize(
    ("rows", "of_texts", "message"),
    [
        (np.ones((3, 4)), False, r"of length 2, and is compared by cosines; .*similarity = DotProduct\(\)"),
        (np.eye(4)[:3, :3], False, r"of shape \(3, 3\), and says \(3, 4\)"),
        (np.eye(4)[:2], False, r"of shape \(2, 4\), and says \(3, 4\)"),
        (np.eye(4)[:3], True, r"of shape \(3, 4\), and says \(3, 2, 4\)"),
    ],
)
def test_what_is_not_as_the_card_says_is_refused(rows: Any, of_texts: bool, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        checked("x", rows, 3, CARD, of_texts)


def test_of_other_similarities_vectors_have_any_length() -> None:
    card = Card(4, 1, True, True, 0, similarity=DotProduct())
    assert card.similarity != COSINE
    assert np.array_equal(checked("x", np.ones((3, 4)), 3, card, of_texts=False), np.ones((3, 4)))


def test_a_bank_refuses_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a pass of days has made vectors that every job would leave out."""
    monkeypatch.setattr(own.Colours, "embed_images", lambda self, prepared: np.stack(prepared))
    name = "python:tests.encoders.own:colours"
    bank = EncoderBank(Embed(encoders=(name,)))
    with pytest.raises(RecipeError, match=f"'{name}': gives a vector of length 25"):
        asyncio.run(bank.embed_images(EncoderName.parse(name), [Image.new("RGB", (2, 2), (255, 0, 0))]))


def test_a_factory_may_say_what_else_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    name = EncoderName.parse("python:tests.encoders.own:colours")
    plain = name.digest()
    monkeypatch.setattr(own.colours, "digest", "weights 1", raising=False)
    first = name.digest()
    monkeypatch.setattr(own.colours, "digest", "weights 2", raising=False)
    assert len({plain, first, name.digest()}) == 3
