"""Captions without their padding: the same vectors and gradients, at a part of the length."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from open_clip.transformer import TextTransformer

from engine.encoders.short_texts import longest, short_reader

VISION = {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 40, "vocab_size": 100, "width": 24, "heads": 2, "layers": 2}
END = 99


def model_of(kind: type = open_clip.CLIP, **text: Any) -> Any:
    torch.manual_seed(0)
    return kind(embed_dim=16, vision_cfg=VISION, text_cfg={**TEXT, **text})


def captions(*lengths: int) -> torch.Tensor:
    """Random words, an end token, zeros behind."""
    tokens = torch.zeros(len(lengths), TEXT["context_length"], dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, : length - 1] = torch.randint(1, END, (length - 1,))
        tokens[row, length - 1] = END
    return tokens


def lengths_seen(model: Any) -> list[int]:
    seen: list[int] = []
    tower = getattr(model, "text", model)
    tower.ln_final.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    return seen


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_vectors_and_gradients_are_those_of_the_whole(kind: type) -> None:
    model, tokens = model_of(kind), captions(3, 7, 12)
    whole = model.encode_text(tokens)
    whole.square().sum().backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    read, seen = short_reader(model), lengths_seen(model)
    short = read(tokens)
    assert seen == [16], "twelve tokens, as a multiple of 8"
    torch.testing.assert_close(short, whole, atol=1e-6, rtol=1e-5)
    short.square().sum().backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys() and "positional_embedding" in " ".join(found)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], atol=1e-5, rtol=1e-4)
    # The model is as it was.
    torch.testing.assert_close(model.encode_text(tokens), whole)


def test_captions_as_long_as_the_tower_reads() -> None:
    model = model_of()
    read, seen, tokens = short_reader(model), lengths_seen(model), captions(40, 2)
    torch.testing.assert_close(read(tokens), model.encode_text(tokens))
    assert seen == [40, 40]


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True}])
def test_a_tower_that_sees_its_padding_is_left_alone(text: dict[str, Any]) -> None:
    model = model_of(open_clip.CustomTextCLIP, **text)
    assert isinstance(model.text, TextTransformer)
    assert short_reader(model) == model.encode_text


def test_how_far_captions_reach() -> None:
    assert [longest(captions(n)) for n in (1, 2, 8, 9, 33, 40)] == [8, 8, 8, 16, 40, 40]
    assert longest(captions(3, 17, 2)) == 24
    assert longest(torch.zeros(0, 40, dtype=torch.int64)) == 40
    assert longest(torch.full((2, 5), END)) == 5, "a tower that reads five tokens"
