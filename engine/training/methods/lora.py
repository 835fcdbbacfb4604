"""LoRA (Hu et al. 2021) on the attention projections of both towers, through peft."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from engine.errors import RecipeError
from engine.recipe.finetune import Adapter
from engine.training.backbone import Backbone

#: Linear layers that make queries and values, or all three of an attention, as libraries name them.
_LINEAR = ("q_proj", "v_proj", "qkv")
_ADAPTER = "default"


def add_lora(backbone: Backbone, adapter: Adapter) -> None:
    """Freeze the backbone and add trainable low-rank updates, which begin as zero.

    Where queries, keys and values are one matrix (open_clip's `nn.MultiheadAttention`), the update
    is one of that whole matrix. peft computes it as a parametrisation in the forward pass; its own
    layer for this module merges and subtracts instead, which changes the frozen weights in their
    last bits at every step.

    Raises:
        RecipeError: the towers have no attention that is known here.
    """
    backbone.requires_grad_(False)
    modules = dict(backbone.model.named_modules())
    fused = any(isinstance(module, nn.MultiheadAttention) for module in modules.values())
    names = {name.rsplit(".", 1)[-1] for name, module in modules.items() if isinstance(module, nn.Linear)}
    linear = [name for name in _LINEAR if name in names]
    if not fused and not linear:
        raise RecipeError(
            f"finetune.method: the towers of '{backbone.name.text}' have no attention projections that LoRA "
            "is known to fit; use method full"
        )
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]
        lora_dropout=0.0,
        bias="none",
        target_modules=linear or None,
        target_parameters=["attn.in_proj_weight"] if fused else None,
    )
    inject_adapter_in_model(config, backbone.model, adapter_name=_ADAPTER)


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
