"""The optimiser: at which share of the rate each parameter is trained, and how the rate goes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import RecipeError
from engine.recipe.finetune import Finetune
from engine.training.backbone import tower_of
from engine.training.method import Method

#: CLIP's for vision transformers, beside its second beta of 0.98 (Radford et al. 2021, appendix F).
EPSILON = 1e-6

#: Where a library's model lies in a method.
_MODEL = "backbone.model."
#: A layer of a tower: open_clip, timm below open_clip, transformers.
_LAYER = re.compile(
    r"(visual\.transformer\.resblocks|visual\.trunk\.blocks|transformer\.resblocks"
    r"|text\.transformer\.resblocks|(vision|text)_model\.encoder\.layers)\.(?P<number>\d+)\."
)
#: Parts of names of what lies below the first layer.
_BELOW = frozenset(
    "conv1 patch_embed class_embedding cls_token reg_token cls_emb positional_embedding pos_embed "
    "token_embedding embeddings ln_pre pre_layrnorm norm_pre".split()
)
#: Parts of names of embeddings that do not decay, although they are matrices; `tokens` are a prefix's.
_UNDECAYED = frozenset(
    "class_embedding cls_token reg_token cls_emb positional_embedding position_embedding pos_embed tokens "
    "logit_scale logit_bias".split()
)


def build_optimizer(method: Method, settings: Finetune) -> torch.optim.Optimizer:
    """The recipe's optimiser over what a method trains.

    Every trained parameter is in one group, and every group has a rate and a weight decay of its
    own. Order follows names alone, so that a saved state fits the optimiser of another process.

    Raises:
        RecipeError: layers' rates are to differ, and the model's layers are not known here.
    """
    trained = {name: value for name, value in method.named_parameters() if value.requires_grad}
    layers = _count_layers(trained)
    if settings.layer_decay < 1 and layers.keys() != set(settings.towers):
        raise RecipeError(
            f"finetune.layer_decay: the layers of the {' and the '.join(settings.towers)} tower of "
            f"'{settings.model}' must be known, and these "
            f"are: {', '.join(sorted(layers)) or 'none'}; take a vision transformer, or set it to 1"
        )
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name in sorted(trained):
        decay = settings.weight_decay if _decays(name, trained[name]) else 0.0
        rate = settings.learning_rate * _share(name, settings, layers)
        groups.setdefault((rate, decay), []).append((name, trained[name]))
    told: list[dict[str, Any]] = [
        {"params": members, "lr": rate, "base_rate": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    # One kernel a group: on processors the default is a dozen operations for each parameter.
    return kind(told, lr=settings.learning_rate, betas=settings.betas, eps=EPSILON, fused=True)


def rate_at(step: int, total: int, settings: Finetune) -> float:
    """The factor of the rates in a step: linear warm-up, then half a cosine to 0, or constant.

    Args:
        step: from 0; at `total`, and beyond it, a cosine has ended.
        total: of the steps, of which `settings.warmup` is a share.
    """
    warmup = round(settings.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    if step >= total:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its own, times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor


def clip_gradients(parameters: Iterable[Tensor], norm: float | None) -> float:
    """Scale gradients down, all by one factor, if they are longer than `norm` together.

    Args:
        parameters: those without a gradient count as 0.
        norm: the largest Euclidean norm of all gradients; None only measures.

    Returns:
        The norm before. If it is no finite number, the gradients are left as they are: no factor
        mends them, and the step is to be left out.
    """
    parameters = list(parameters)
    length = nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    told = float(length)
    if norm is not None and math.isfinite(told):
        nn.utils.clip_grads_with_norm_(parameters, norm, length)
    return told


def _decays(name: str, parameter: Tensor) -> bool:
    """Whether weights may be drawn to 0: neither biases, scales, nor embeddings of few places."""
    parts = name.split(".")
    return parameter.ndim > 1 and not parts[-1].endswith("bias") and not _UNDECAYED.intersection(parts)


def _share(name: str, settings: Finetune, layers: Mapping[str, int]) -> float:
    """Of the learning rate."""
    if not name.startswith(_MODEL):
        return 1.0
    inside = name.removeprefix(_MODEL)
    tower = tower_of(inside)
    if settings.method in ("pvse", "pcme", "dive") and tower:
        return settings.adapter.image_rate if tower == "image" else settings.adapter.text_rate
    # A power of 1 is 1, also where no layers are known.
    return settings.layer_decay ** _depth(inside, layers.get(tower, 0))


def _depth(inside: str, layers: int) -> int:
    """Levels below the top: 0 for projections and last norms, 1 for the last layer, and so on."""
    if found := _LAYER.match(inside):
        return layers - int(found["number"])
    return layers + 1 if _BELOW.intersection(inside.split(".")) else 0


def _count_layers(names: Iterable[str]) -> dict[str, int]:
    """How many layers each tower has, of those whose layers are known."""
    counts: dict[str, int] = {}
    for inside in (name.removeprefix(_MODEL) for name in names if name.startswith(_MODEL)):
        if found := _LAYER.match(inside):
            tower = tower_of(inside)
            counts[tower] = max(counts.get(tower, 0), int(found["number"]) + 1)
    return counts
