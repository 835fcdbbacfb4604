"""LoRA (Hu et al. 2021) on the attention projections of both towers, through peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from open_clip.modified_resnet import AttentionPool2d
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from engine.errors import RecipeError
from engine.recipe.finetune import Tower
from engine.recipe.finetune_parts import Adapter
from engine.training.backbone import Backbone, tower_of

#: Linear layers that make queries and values, or all three of an attention, as libraries name them.
_LINEAR = frozenset({"q_proj", "v_proj", "qkv", "query", "value"})
_ADAPTER = "default"


def add_lora(backbone: Backbone, adapter: Adapter, towers: Sequence[Tower] = ("image", "text")) -> None:
    """Freeze the backbone and add trainable low-rank updates, which begin as zero.

    Where queries, keys and values are one matrix (open_clip's `nn.MultiheadAttention`), the update
    is one of that whole matrix. peft computes it as a parametrisation in the forward pass; its own
    layer for this module merges and subtracts instead, which changes the frozen weights in their
    last bits at every step. In a tower that is not trained the updates stay zero.

    Raises:
        RecipeError: the towers have no attention that is known here.
    """
    backbone.requires_grad_(False)
    fused, names = _projections(backbone.model)
    for tower in towers:
        if not any(tower_of(f"{name}.") == tower for name in (*fused, *names)):
            raise RecipeError(
                f"finetune.method: the {tower} tower of '{backbone.name.text}' has no attention projections "
                "that LoRA is known to fit; use method full, or leave the tower out of finetune.towers"
            )
    linear = sorted({name.rpartition(".")[2] for name in names})
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]
        lora_dropout=0.0,
        bias="none",
        target_modules=linear or None,
        target_parameters=["attn.in_proj_weight"] if fused else None,
    )
    inject_adapter_in_model(config, backbone.model, adapter_name=_ADAPTER)
    for name, parameter in backbone.model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and tower_of(name) in towers)


def _projections(model: nn.Module) -> tuple[list[str], list[str]]:
    """The fused attentions, and the layers that make queries or values, by name."""
    fused, linear = list[str](), list[str]()
    # A ResNet's pooling reads its projections' weights and passes their layers by.
    pools = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, AttentionPool2d))
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            fused.append(name)
        elif isinstance(module, nn.Linear) and name.rpartition(".")[2] in _LINEAR:
            linear += [name] * (not name.startswith(pools))
    return fused, linear


def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """The library's weights by their own names, with what LoRA has learned added."""
    deltas = dict[str, Tensor]()
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            parameter = getattr(layer, "parameter_name", "weight")
            deltas[_plain(f"{name}.{parameter}")] = layer.get_delta_weight(_ADAPTER).detach()
    weights = {_plain(name): value for name, value in model.state_dict().items() if ".lora_" not in name}
    return {name: value + deltas[name] if name in deltas else value for name, value in weights.items()}


def _plain(name: str) -> str:
    return name.replace(".base_layer", "")
