"""A caption that could not be written stands as null beside those that could."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.flow.clustering import texts_of
from engine.flow.glimpses import _of

SAMPLE: Any = SimpleNamespace(
    key="a",
    captions=["a boat"],
    creative_captions=[
        {"caption": text, "flag": None if text else "empty caption"} for text in (None, "a boat of dreams")
    ],
)


def test_it_is_neither_counted_among_words_nor_shown() -> None:
    assert texts_of(SAMPLE, "both") == ["a boat", "a boat of dreams"]
    assert texts_of(SAMPLE, "mined") == ["a boat of dreams"]
    assert _of(SAMPLE, None).mined == ("a boat of dreams",)
