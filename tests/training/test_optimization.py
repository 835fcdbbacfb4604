from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from engine.errors import RecipeError
from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone
from engine.training.method import Method
from engine.training.methods import build_method
from engine.training.methods.lora import add_lora
from engine.training.optimization import EPSILON, build_optimizer, clip_gradients, rate_at, set_rates
from engine.training.tensors import flatten, unflatten
from tests.encoders.tiny import build
from tests.training.tiny import load, settings, write_clip


class Adapted(Method):
    """As the methods that adapt a LoRA'd backbone."""

    def __init__(self, backbone: Backbone, chosen: Finetune) -> None:
        super().__init__()
        add_lora(backbone, chosen.adapter)
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, 4)


def method_of(tmp_path: Path, name: str, **more: Any) -> tuple[Method, Finetune]:
    clip = write_clip(tmp_path)
    chosen = settings(clip, name, **more)
    backbone = load(clip)
    return (Adapted(backbone, chosen) if name == "pvse" else build_method(backbone, chosen)), chosen


def grouped(method: Method, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Rate and weight decay by name; each trained parameter once, and no other."""
    names = {id(value): name for name, value in method.named_parameters()}
    found = [
        (names[id(value)], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for value in group["params"]
    ]
    trained = {name for name, value in method.named_parameters() if value.requires_grad}
    assert sorted(name for name, _ in found) == sorted(trained)
    return dict(found)


@pytest.mark.parametrize("name", ["full", "lora", "prefix", "pvse"])
def test_every_trained_parameter_is_in_one_group(tmp_path: Path, name: str) -> None:
    method, chosen = method_of(tmp_path, name, weight_decay=0.1)
    optimizer = build_optimizer(method, chosen)
    assert isinstance(optimizer, torch.optim.AdamW)
    rates = grouped(method, optimizer)
    assert all(decay in (0.0, 0.1) for _, decay in rates.values())
    if name != "pvse":
        assert {rate for rate, _ in rates.values()} == {chosen.learning_rate}


def test_what_decays(tmp_path: Path) -> None:
    method, chosen = method_of(tmp_path, "full", weight_decay=0.1)
    decays = {
        name.removeprefix("backbone.model."): decay
        for name, (_, decay) in grouped(method, build_optimizer(method, chosen)).items()
    }
    for name in ("visual.conv1.weight", "visual.proj", "token_embedding.weight", "text_projection"):
        assert decays[name] == 0.1, name
    assert decays["transformer.resblocks.0.attn.in_proj_weight"] == 0.1
    for name in (
        "visual.class_embedding",
        "visual.positional_embedding",
        "positional_embedding",
        "logit_scale",
        "visual.ln_pre.weight",
        "transformer.resblocks.0.attn.in_proj_bias",
        "visual.transformer.resblocks.1.mlp.c_fc.bias",
    ):
        assert decays[name] == 0, name
    prefix, chosen = method_of(tmp_path, "prefix", weight_decay=0.1)
    assert grouped(prefix, build_optimizer(prefix, chosen)) == {"tokens": (1e-4, 0.0)}


def test_rates_fall_from_layer_to_layer(tmp_path: Path) -> None:
    vision = {"image_size": 16, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
    clip = write_clip(tmp_path, vision_cfg=vision)
    chosen = settings(clip, "full", layer_decay=0.5, learning_rate=1.0)
    method = build_method(load(clip), chosen)
    rates = {
        name.removeprefix("backbone.model."): rate
        for name, (rate, _) in grouped(method, build_optimizer(method, chosen)).items()
    }
    top = ("visual.proj", "visual.ln_post.weight", "text_projection", "ln_final.bias", "logit_scale")
    assert [rates[name] for name in top] == [1.0] * 5
    layers = [rates[f"visual.transformer.resblocks.{i}.ln_1.weight"] for i in range(3)]
    assert layers == [0.125, 0.25, 0.5]
    assert [rates[f"transformer.resblocks.{i}.attn.in_proj_weight"] for i in range(2)] == [0.25, 0.5]
    below = ("conv1.weight", "class_embedding", "positional_embedding", "ln_pre.weight")
    assert {rates[f"visual.{name}"] for name in below} == {0.5**4}
    assert {rates["token_embedding.weight"], rates["positional_embedding"]} == {0.5**3}


def test_layers_of_transformers(tmp_path: Path) -> None:
    build("clip", tmp_path)
    chosen = settings(f"hf:{tmp_path}", "full", layer_decay=0.5, learning_rate=1.0, weight_decay=0.1)
    method = build_method(load(f"hf:{tmp_path}"), chosen)
    told = {
        name.removeprefix("backbone.model."): found
        for name, found in grouped(method, build_optimizer(method, chosen)).items()
    }
    for tower in ("vision_model", "text_model"):
        numbers = [int(name.split(".")[3]) for name in told if name.startswith(f"{tower}.encoder.layers.")]
        count = max(numbers) + 1
        assert told[f"{tower}.encoder.layers.{count - 1}.self_attn.q_proj.weight"] == (0.5, 0.1)
        assert told[f"{tower}.encoder.layers.0.self_attn.q_proj.bias"] == (0.5**count, 0.0)
        assert told[f"{tower}.embeddings.position_embedding.weight"] == (0.5 ** (count + 1), 0.0)
    assert told["vision_model.pre_layrnorm.weight"][0] == told["vision_model.embeddings.class_embedding"][0]
    assert told["text_model.embeddings.token_embedding.weight"][1] == 0.1
    for name in ("visual_projection.weight", "text_projection.weight"):
        assert told[name] == (1.0, 0.1)
    assert told["text_model.final_layer_norm.weight"] == told["logit_scale"] == (1.0, 0.0)


class Named(Method):
    """A model of which only the names matter."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.backbone = nn.Module()  # type: ignore[assignment]
        self.backbone.model = nn.Module()
        for name in names:
            place: Any = self.backbone.model
            *modules, last = name.split(".")
            for module in modules:
                if not hasattr(place, module):
                    place.add_module(module, nn.Module())
                place = getattr(place, module)
            place.register_parameter(last, nn.Parameter(torch.zeros(2, 2)))


def test_layers_of_timm_and_of_a_text_tower_apart() -> None:
    depths = {
        "visual.trunk.cls_token": 3,
        "visual.trunk.pos_embed": 3,
        "visual.trunk.patch_embed.proj.weight": 3,
        "visual.trunk.blocks.0.attn.qkv.weight": 2,
        "visual.trunk.blocks.1.mlp.fc1.weight": 1,
        "visual.trunk.norm.weight": 0,
        "visual.head.proj.weight": 0,
        "text.token_embedding.weight": 13,
        "text.transformer.resblocks.2.ln_1.weight": 10,
        "text.transformer.resblocks.11.ln_1.weight": 1,
        "text.ln_final.weight": 0,
        "text.text_projection.weight": 0,
    }
    method = Named(list(depths))
    chosen = settings("hf:x", "full", layer_decay=0.9, learning_rate=1.0)
    rates = grouped(method, build_optimizer(method, chosen))
    for name, depth in depths.items():
        assert rates[f"backbone.model.{name}"][0] == pytest.approx(0.9**depth), name


def test_the_names_are_those_of_open_clip_and_timm() -> None:
    vision = {"timm_model_name": "vit_tiny_patch16_224", "image_size": 32, "timm_pool": "token"}
    text = {"context_length": 12, "vocab_size": 100, "width": 24, "heads": 2, "layers": 2}
    model = open_clip.CustomTextCLIP(16, vision, text)
    method = Method()
    method.backbone = nn.Module()  # type: ignore[assignment]
    method.backbone.model = model
    rates = grouped(method, build_optimizer(method, settings("hf:x", "full", layer_decay=0.5)))
    found = {name.removeprefix("backbone.model."): rate / 1e-5 for name, (rate, _) in rates.items()}
    assert (
        found["visual.trunk.blocks.11.attn.qkv.weight"] == found["text.transformer.resblocks.1.ln_1.weight"]
    )
    assert found["visual.trunk.pos_embed"] == found["visual.trunk.patch_embed.proj.weight"] == 0.5**13
    assert found["text.positional_embedding"] == 0.5**3
    assert min(found.values()) == 0.5**13 and found["logit_scale"] == found["visual.trunk.norm.weight"] == 1


def test_towers_without_known_layers_are_refused(tmp_path: Path) -> None:
    resnet = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    clip = write_clip(tmp_path, vision_cfg=resnet)
    method = build_method(load(clip), settings(clip, "full"))
    assert grouped(method, build_optimizer(method, settings(clip, "full")))
    with pytest.raises(RecipeError, match=r"finetune\.layer_decay: .* and these are: text; .* set it to 1"):
        build_optimizer(method, settings(clip, "full", layer_decay=0.9))


def test_layers_of_the_trained_tower_are_enough(tmp_path: Path) -> None:
    resnet = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    clip = write_clip(tmp_path, vision_cfg=resnet)
    chosen = settings(clip, "full", layer_decay=0.9, towers=["text"])
    method = build_method(load(clip), chosen)
    rates = grouped(method, build_optimizer(method, chosen))
    assert not any(name.startswith("backbone.model.visual.") for name in rates)
    other = settings(clip, "full", layer_decay=0.9, towers=["image"])
    with pytest.raises(RecipeError, match=r"the image tower of .* must be known, .* are: none"):
        build_optimizer(build_method(load(clip), other), other)


def test_rates_of_the_towers_under_an_adapter(tmp_path: Path) -> None:
    method, chosen = method_of(tmp_path, "pvse", learning_rate=1.0)
    rates = grouped(method, build_optimizer(method, chosen))
    by_rate = {rate: {name for name in rates if rates[name][0] == rate} for rate, _ in rates.values()}
    assert by_rate[1.0] == {"head.weight", "head.bias"}
    assert by_rate.keys() == {1.0, 0.05, 0.5}
    assert all(name.startswith("backbone.model.visual.") for name in by_rate[0.05])
    assert all(name.startswith("backbone.model.transformer.") for name in by_rate[0.5])
    assert all(".lora_" in name for name in by_rate[0.05] | by_rate[0.5])
    # A tower may be left as it is.
    still = settings(chosen.model, "pvse", adapter={"image_rate": 0})
    optimizer = build_optimizer(method, still)
    (group,) = (group for group in optimizer.param_groups if group["lr"] == 0)
    before = [value.detach().clone() for value in group["params"]]
    for value in method.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()
    assert before and all(map(torch.equal, before, group["params"]))


def reference(
    weights: list[np.ndarray[Any, Any]], chosen: Finetune, steps: int, decays: list[float]
) -> list[Any]:
    """Adam and AdamW in float64, with gradients that are the weights' sines."""
    first, second = chosen.betas
    found = [w.astype(np.float64) for w in weights]
    means, squares = [np.zeros_like(w) for w in found], [np.zeros_like(w) for w in found]
    for step in range(1, steps + 1):
        rate = chosen.learning_rate * rate_at(step - 1, steps, chosen)
        for i, weight in enumerate(found):
            gradient = np.sin(weight)
            if chosen.optimizer == "adam":
                gradient = gradient + decays[i] * weight
            else:
                weight = weight * (1 - rate * decays[i])
            means[i] = first * means[i] + (1 - first) * gradient
            squares[i] = second * squares[i] + (1 - second) * gradient**2
            root = np.sqrt(squares[i] / (1 - second**step)) + EPSILON
            found[i] = weight - rate * means[i] / (1 - first**step) / root
    return found


class Two(Method):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(3, 5, generator=generator))
        self.scale = nn.Parameter(torch.randn((), generator=generator))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        for value in self.parameters():
            value.grad = torch.sin(value.detach())
        optimizer.step()


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_steps_are_adam_s(kind: str) -> None:
    method = Two()
    chosen = settings("hf:x", "full", optimizer=kind, weight_decay=0.3, learning_rate=0.05, warmup=0.3)
    weights = [method.matrix.detach().numpy().copy(), method.scale.detach().numpy().copy()]
    optimizer = build_optimizer(method, chosen)
    for step in range(12):
        set_rates(optimizer, rate_at(step, 12, chosen))
        method.step(optimizer)
    for value, wanted in zip(method.parameters(), reference(weights, chosen, 12, [0.3, 0.0]), strict=True):
        np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-5)


def test_a_saved_state_fits_a_new_optimizer() -> None:
    chosen = settings("hf:x", "full", weight_decay=0.1, learning_rate=0.05)

    def trained(split: int | None) -> list[Tensor]:
        method = Two()
        optimizer = build_optimizer(method, chosen)
        for step in range(10):
            if step == split:
                # As a checkpoint keeps it, taken up by a process whose rates stand elsewhere.
                tensors, plain = flatten(copy.deepcopy(optimizer.state_dict()))
                other = Two()
                other.load_state_dict(method.state_dict())
                method, optimizer = other, build_optimizer(other, chosen)
                optimizer.load_state_dict(unflatten(tensors, plain))
            set_rates(optimizer, rate_at(step, 10, chosen))
            method.step(optimizer)
        return [value.detach() for value in method.parameters()]

    for split in (1, 5, 9):
        assert all(map(torch.equal, trained(None), trained(split)))


def test_groups_and_their_order_follow_names_alone(tmp_path: Path) -> None:
    method, chosen = method_of(tmp_path, "full", weight_decay=0.1, layer_decay=0.8)

    class Shuffled(Method):
        def named_parameters(self, *_: Any, **__: Any) -> Any:  # type: ignore[override]
            return reversed(list(method.named_parameters()))

    one, other = build_optimizer(method, chosen), build_optimizer(Shuffled(), chosen)
    told = [group["param_names"] for group in one.param_groups]
    assert told == [group["param_names"] for group in other.param_groups]
    assert all(names == sorted(names) for names in told)


def test_the_schedule() -> None:
    chosen = settings("hf:x", "full", warmup=0.2)
    rates = [rate_at(step, 10, chosen) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5) and rates[10] == 0
    assert rates[2:] == sorted(rates[2:], reverse=True)
    for step in range(2, 10):
        assert rates[step] == pytest.approx(math.cos(math.pi * (step - 2) / 16) ** 2)
    constant = settings("hf:x", "full", warmup=0.2, schedule="constant")
    assert [rate_at(step, 10, constant) for step in (0, 1, 2, 9, 10)] == [0.5, 1, 1, 1, 1]


@given(
    st.integers(0, 3000), st.integers(0, 2000), st.floats(0, 0.999), st.sampled_from(["cosine", "constant"])
)
def test_factors_are_between_0_and_1(step: int, total: int, warmup: float, schedule: str) -> None:
    chosen = Finetune.model_validate({"model": "hf:x", "warmup": warmup, "schedule": schedule})
    factor = rate_at(step, total, chosen)
    assert 0 <= factor <= 1
    # No step of a training stands still.
    assert factor > 0 or step >= total


def gradients(*values: list[float] | None) -> list[nn.Parameter]:
    parameters = []
    for value in values:
        parameter = nn.Parameter(torch.zeros(len(value or [0])))
        parameter.grad = None if value is None else torch.tensor(value)
        parameters.append(parameter)
    return parameters


def test_clipping() -> None:
    parameters = gradients([3.0, 0.0], None, [0.0, 4.0, 12.0])
    assert clip_gradients(iter(parameters), None) == 13
    assert clip_gradients(parameters, 20.0) == 13
    assert parameters[0].grad is not None and parameters[0].grad.tolist() == [3, 0]
    assert clip_gradients(iter(parameters), 6.5) == 13
    assert parameters[0].grad.tolist() == pytest.approx([1.5, 0])
    assert parameters[2].grad is not None and parameters[2].grad.tolist() == pytest.approx([0, 2, 6])
    assert clip_gradients([], 1.0) == clip_gradients(gradients(None), 1.0) == 0


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_gradient_that_is_no_number_is_told_and_left(bad: float) -> None:
    parameters = gradients([bad, 1.0], [2.0])
    assert not math.isfinite(clip_gradients(parameters, 1.0))
    assert parameters[1].grad is not None and parameters[1].grad.tolist() == [2]


def test_a_scaler_steps_with_it() -> None:
    """float16: what overflows is left out by the scaler, whatever clipping made of it."""
    method = Two()
    chosen = settings("hf:x", "full", learning_rate=0.05, precision="float16")
    optimizer = build_optimizer(method, chosen)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = method.matrix.detach().clone()
    for bad in (True, False):
        for value in method.parameters():
            value.grad = torch.full_like(value, math.inf if bad else 4.0)
        scaler.scale(torch.ones(()))
        scaler.unscale_(optimizer)
        clip_gradients(list(method.parameters()), 1.0)
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(method.matrix, before) == bad
