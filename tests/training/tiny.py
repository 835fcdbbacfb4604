"""A tiny CLIP of open_clip, saved and loaded as any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

from engine.encoders import EncoderName
from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone
from engine.training.load import load_backbone

SETTINGS: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}
CPU = torch.device("cpu")


def write_clip(directory: Path, seed: int = 0, **changes: Any) -> str:
    """Write a model with random weights; returns its name as an encoder."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = {**SETTINGS, **changes}
    torch.manual_seed(seed)
    model = open_clip.CLIP(**settings)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, directory / "w.safetensors"
    )
    (directory / "config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": {}}))
    return f"open_clip:{directory}/config.json/w.safetensors"


def load(name: str) -> Backbone:
    """The backbone of a name, on the processor."""
    return load_backbone(EncoderName.parse(name), CPU)


def settings(name: str, method: str, **more: Any) -> Finetune:
    """The section of a recipe."""
    return Finetune.model_validate({"model": name, "method": method, **more})


def pixels(count: int, seed: int = 1, side: int = 16) -> torch.Tensor:
    """Prepared images of noise."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
