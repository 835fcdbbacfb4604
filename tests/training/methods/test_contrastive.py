"""The methods with one vector a side: what is trained, what is not, and what they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.errors import RecipeError
from engine.training.method import Method, Targets
from engine.training.methods import build_method
from engine.training.methods.lora import merged_weights
from tests.encoders.tiny import build
from tests.training.tiny import load, pixels, settings, write_bert_clip, write_clip

LEVELS = torch.tensor([0, 4, 2])


def method_of(name: str, method: str, **more: object) -> Method:
    torch.manual_seed(3)
    return build_method(load(name), settings(name, method, **more))


def trained(method: Method) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in method.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_begins_with_the_model_as_it_is(tmp_path: Path, method: str) -> None:
    name = write_clip(tmp_path)
    made, plain = method_of(name, method), load(name)
    theirs = torch.nn.functional.normalize(plain.model.encode_image(pixels(3)), dim=-1)
    torch.testing.assert_close(made.image_side(pixels(3), LEVELS)["features"], theirs)


def test_full_trains_all(tmp_path: Path) -> None:
    name = write_clip(tmp_path)
    assert len(trained(method_of(name, "full"))) == len(list(load(name).model.parameters()))


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_alone(tmp_path: Path, method: str, tower: str) -> None:
    name = write_clip(tmp_path)
    both, made = method_of(name, method), method_of(name, method, towers=[tower])
    assert made.sides == (f"{tower}s",)
    of_it = {key for key in trained(both) if (".visual." in key) == (tower == "image")}
    of_both = {key for key in trained(both) if key.endswith("logit_scale")}
    assert trained(made).keys() == of_it | of_both and len(of_it) > 1
    outputs = made.image_side(pixels(3), LEVELS), made.text_side(load(name).tokenize(["a", "b", "c"]))
    assert [said["features"].requires_grad for said in outputs] == [tower == "image", tower == "text"]


def test_prefix_trains_its_tokens_alone(tmp_path: Path) -> None:
    made = method_of(write_clip(tmp_path), "prefix")
    assert {name: tuple(value.shape) for name, value in trained(made).items()} == {"tokens": (5, 5, 32)}
    seen = made.image_side(pixels(3), LEVELS)["features"]
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(3))
    # Another level, another view of the same image; level -1 is the backbone's own.
    others = made.image_side(pixels(3), (LEVELS + 1) % 5)["features"]
    assert not torch.isclose(seen, others).all(dim=1).any()
    own = torch.nn.functional.normalize(made.backbone.embed_image(pixels(3)), dim=-1)
    mixed = made.image_side(pixels(3), torch.tensor([-1, 4, -1]))["features"]
    torch.testing.assert_close(mixed[[0, 2]], own[[0, 2]])
    torch.testing.assert_close(mixed[1], seen[1])


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_prefix_learns_the_same_on_several_threads(tmp_path: Path, two_threads: None) -> None:
    """So many tokens that torch shares them out: sums must not depend on which thread is first."""
    made: Any = method_of(write_clip(tmp_path), "prefix")
    levels = torch.arange(300) % 5
    factors = torch.randn(300, 5, 32, generator=torch.Generator().manual_seed(0))
    # What arrives at the tokens is looked at, whatever the tower would make of them.
    made.backbone.see = lambda _, extra: SimpleNamespace(pooled=(extra * factors).sum(dim=1))
    found = []
    for _ in range(20):
        made.zero_grad()
        made.image_side(pixels(300), levels)["features"][:, 0].sum().backward()
        found.append(made.tokens.grad.clone())
    assert all(torch.equal(found[0], other) for other in found)


def test_the_factor_of_the_cosines_is_bounded_after_the_step(tmp_path: Path) -> None:
    name, tokens = write_clip(tmp_path), load(write_clip(tmp_path)).tokenize(["a", "b", "c"])
    targets = Targets(torch.arange(3), torch.full((3,), -1), torch.ones(3), 0)
    for loss, bounded in (("infonce", True), ("multi_positive", True), ("sigmoid", False)):
        made = method_of(name, "full", loss=loss, order="balanced")
        scale = made.backbone.logit_scale
        with torch.no_grad():
            scale.fill_(5.0)
        said = made.image_side(pixels(3), LEVELS), made.text_side(tokens)
        made.loss(*said, targets, slice(0, 3)).backward()
        assert scale.grad is not None and scale.grad != 0, "it must be able to come down again"
        made.settle()
        assert float(scale.detach()) == pytest.approx(4.60517 if bounded else 5.0)


def test_prefix_needs_a_transformer(tmp_path: Path) -> None:
    resnet = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    with pytest.raises(RecipeError, match="method: prefix works on a vision transformer"):
        method_of(write_clip(tmp_path, vision_cfg=resnet), "prefix")


@pytest.mark.parametrize("library", ["open_clip", "hf"])
def test_lora_changes_nothing_but_its_matrices(tmp_path: Path, library: str) -> None:
    if library == "hf":
        build("clip", tmp_path)
    name = write_clip(tmp_path) if library == "open_clip" else f"hf:{tmp_path}"
    made, plain = method_of(name, "lora"), load(name)
    assert trained(made) and all(".lora_" in key for key in trained(made))
    towers = {"visual" in key or "vision_model" in key for key in trained(made)}
    assert towers == {True, False}, "both towers are trained"
    side = plain.side
    optimizer = torch.optim.SGD(trained(made).values(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        made.image_side(pixels(2, side=side), LEVELS[:2])["features"][:, 0].sum().backward()
        made.text_side(plain.tokenize(["a", "b c"]))["features"][:, 0].sum().backward()
        optimizer.step()
    # The frozen weights are what they were, to the last bit: a resumed run loads them anew.
    frozen = {key.replace(".base_layer", ""): value for key, value in made.backbone.model.named_parameters()}
    for key, value in plain.model.named_parameters():
        assert torch.equal(frozen[key], value), key
    # Merged weights in a plain model do what the adapted one does.
    before = plain.embed_image(pixels(2, side=side))
    plain.model.load_state_dict(merged_weights(made.backbone.model))
    after = made.backbone.embed_image(pixels(2, side=side))
    torch.testing.assert_close(plain.embed_image(pixels(2, side=side)), after, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, after, atol=1e-3)


def test_lora_fits_every_tower_that_is_trained(tmp_path: Path) -> None:
    # A ResNet's pooling has layers of the right names, and passes them by.
    resnet = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    name = write_clip(tmp_path, vision_cfg=resnet)
    with pytest.raises(RecipeError, match=r"the image tower of .* has no attention projections"):
        method_of(name, "lora")
    made = method_of(name, "lora", towers=["text"])
    assert trained(made) and not any(".visual." in key for key in trained(made))


def test_lora_s_rank_and_scale(tmp_path: Path) -> None:
    made = method_of(write_clip(tmp_path), "lora", adapter={"rank": 2, "alpha": 6})
    shapes = {tuple(value.shape) for name, value in trained(made).items() if "visual" in name}
    assert shapes == {(2, 32), (96, 2)}
    base = dict(load(write_clip(tmp_path)).model.named_parameters())[
        "visual.transformer.resblocks.0.attn.in_proj_weight"
    ]
    with torch.no_grad():
        for value in trained(made).values():
            value.fill_(1.0)
    merged = merged_weights(made.backbone.model)["visual.transformer.resblocks.0.attn.in_proj_weight"]
    torch.testing.assert_close(merged - base, torch.full_like(base, 2 * 6 / 2))


@pytest.mark.parametrize("library", ["open_clip", "hf", "bert"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradient_checkpointing_computes_layers_again_and_changes_nothing(
    tmp_path: Path, library: str, method: str
) -> None:
    """Also in a text tower of transformers inside of open_clip, which has dropout."""
    if library == "hf":
        # Of CLIP's own settings one drops at random, too.
        config = build("clip", tmp_path).config
        config.text_config.attention_dropout = config.vision_config.attention_dropout = 0.5
        config.save_pretrained(tmp_path)
    name = write_clip(tmp_path) if library == "open_clip" else f"hf:{tmp_path}"
    name = write_bert_clip(tmp_path)[0] if library == "bert" else name
    found, runs = [], []
    for on in (False, True):
        made = method_of(name, method, gradient_checkpointing=on)
        counts = _counted(made)
        tokens = made.backbone.tokenize(["red fish", "a cat", ""])
        images = made.image_side(pixels(3, side=made.backbone.side), LEVELS)["features"]
        (images * made.text_side(tokens)["features"]).square()[:, 0].sum().backward()
        found.append([value.grad for value in trained(made).values() if value.grad is not None])
        runs.append(counts)
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert len(runs[0]) > 2 and set(runs[0].values()) == {1} and set(runs[1].values()) == {2}
    with torch.inference_mode():  # as an encoder
        made.text_side(tokens)


def _counted(method: Method) -> Counter[str]:
    """How often the attention of each layer of either tower has been run, kept up to date."""
    counts = Counter[str]()
    for name, module in method.named_modules():
        if name.endswith(("attn", "self_attn", "attention")):
            module.register_forward_pre_hook(lambda _, __, name=name: counts.update([name]))
    return counts
