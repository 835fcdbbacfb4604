from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from engine.encoders import EncoderName, load_encoder
from engine.errors import RecipeError
from engine.training.load import load_backbone
from engine.training.methods import build_method
from tests.encoders.tiny import build
from tests.training.tiny import CPU, SETTINGS, load, pixels, settings, write_bert_clip, write_clip

TEXTS = ["a red fish", "a cat and a dog in the snow at night", ""]


def test_both_towers_are_the_library_s(tmp_path: Path) -> None:
    name = write_clip(tmp_path)
    backbone = load(name)
    seen, read = backbone.see(pixels(3)), backbone.read(backbone.tokenize(TEXTS))
    torch.testing.assert_close(seen.pooled, backbone.model.encode_image(pixels(3)))
    torch.testing.assert_close(read.pooled, backbone.model.encode_text(backbone.tokenize(TEXTS)))
    assert seen.tokens.shape == (3, 4, backbone.image_token_width)
    assert read.tokens.shape == (3, 12, backbone.text_token_width)
    # Start, words and end: what follows is padding.
    assert read.valid.sum(dim=1).tolist() == [5, 12, 2]


def test_extra_tokens_follow_the_patches_before_the_first_norm(tmp_path: Path) -> None:
    backbone = load(write_clip(tmp_path))
    extra = torch.randn(3, 5, 32)
    tower = backbone.model.visual
    seen = backbone.see(pixels(3), extra)
    patches = tower.conv1(pixels(3)).flatten(2).transpose(1, 2)
    tokens = torch.cat([tower.class_embedding.expand(3, 1, -1), patches], dim=1) + tower.positional_embedding
    through = tower.transformer(tower.ln_pre(torch.cat([tokens, extra], dim=1)))
    torch.testing.assert_close(seen.pooled, tower.ln_post(through)[:, 0] @ tower.proj)
    torch.testing.assert_close(seen.tokens, through[:, 1:5])
    # What was appended is gone with the call.
    torch.testing.assert_close(backbone.see(pixels(3)).pooled, backbone.model.encode_image(pixels(3)))


def test_a_backbone_prepares_as_the_encoder_does(tmp_path: Path) -> None:
    name = write_clip(tmp_path)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8))
    backbone, encoder = load(name), load_encoder(EncoderName.parse(name))
    torch.testing.assert_close(backbone.prepare(picture), encoder.prepare(picture))


def test_a_clip_of_transformers(tmp_path: Path) -> None:
    build("clip", tmp_path)
    name = f"hf:{tmp_path}"
    backbone = load(name)
    encoder = load_encoder(EncoderName.parse(name))
    side = backbone.side
    seen = backbone.see(pixels(2, side=side))
    assert seen.tokens.shape[2] == backbone.image_token_width
    read = backbone.read(backbone.tokenize(TEXTS[:2]))
    theirs = torch.tensor(encoder.embed_texts(TEXTS[:2]))
    torch.testing.assert_close(torch.nn.functional.normalize(read.pooled), theirs, atol=1e-5, rtol=0)
    with_extra = backbone.see(pixels(2, side=side), torch.randn(2, 5, backbone.image_token_width))
    assert with_extra.tokens.shape == seen.tokens.shape
    assert not torch.allclose(with_extra.pooled, seen.pooled)


def test_a_tower_without_tokens_says_so(tmp_path: Path) -> None:
    resnet = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    backbone = load(write_clip(tmp_path, vision_cfg=resnet))
    assert isinstance(backbone.model.visual, open_clip.modified_resnet.ModifiedResNet)
    assert backbone.embed_image(pixels(2, side=32)).shape == (2, 16)
    with pytest.raises(
        RecipeError, match=r"finetune.method: prefix works on a vision transformer's tokens.*Mod"
    ):
        backbone.places("prefix")


def test_a_text_tower_of_another_kind_carries_prefix(tmp_path: Path) -> None:
    """Its images have tokens, which is all that prefix needs; adapters are told what they miss."""
    name, clip = write_bert_clip(tmp_path)
    method = build_method(load(name), settings(name, "prefix"))
    seen = method.image_side(pixels(2), torch.tensor([0, 3]))["features"]
    plain = method.image_side(pixels(2), torch.tensor([-1, -1]))["features"]
    assert seen.shape == plain.shape == (2, 16) and not torch.allclose(seen, plain)
    read = method.text_side(method.backbone.tokenize(["red fish"]))["features"]
    theirs = clip.encode_text(method.backbone.tokenize(["red fish"]), normalize=True)
    torch.testing.assert_close(read, theirs)
    with pytest.raises(RecipeError, match=r"dive works on the tokens of a text tower that ends a caption"):
        build_method(load(name), settings(name, "dive"))


@pytest.mark.parametrize("pool", ["last", "first"])
@pytest.mark.parametrize("method", ["pvse", "pcme", "dive"])
def test_a_text_tower_that_ends_elsewhere_carries_no_head(tmp_path: Path, method: str, pool: str) -> None:
    """As of CLIPA and MetaCLIP 2: their largest token is any word, up to which a head would see."""
    name = write_clip(tmp_path, text_cfg={**SETTINGS["text_cfg"], "pool_type": pool})
    with pytest.raises(
        RecipeError, match=rf"{method} works on the tokens of a text tower that ends a caption"
    ):
        build_method(load(name), settings(name, method))
    build_method(load(name), settings(name, "prefix"))


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(RecipeError, match="'sentence:a/b' cannot be trained; name a CLIP of open_clip"):
        load_backbone(EncoderName.parse("sentence:a/b"), CPU)
