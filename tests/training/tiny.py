"""A tiny CLIP of open_clip, saved and loaded as any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers as tf
from safetensors.torch import save_file

from engine.encoders import EncoderName
from engine.recipe.finetune import Finetune
from engine.storage import Location
from engine.training.backbone import Backbone
from engine.training.load import load_backbone
from engine.training.methods import build_method
from engine.training.model_directory import ModelDirectory
from engine.training.result import write_result
from tests.encoders.tiny import bert_tokenizer

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


def write_bert_clip(directory: Path) -> tuple[str, open_clip.CustomTextCLIP]:
    """Write a model whose text tower and tokenizer are transformers'; its name as an encoder, and itself."""
    folder = directory / "clip"
    config = tf.BertConfig(
        vocab_size=40,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
    )
    tf.BertModel(config, add_pooling_layer=False).save_pretrained(directory / "bert")
    bert_tokenizer().save_pretrained(folder)
    text = {
        "hf_model_name": str(directory / "bert"),
        "hf_tokenizer_name": "its/own",
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
        "context_length": 12,
    }
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(16, SETTINGS["vision_cfg"], text)
    save_file(model.state_dict(), folder / "w.safetensors")
    told = {"model_cfg": {**SETTINGS, "text_cfg": text, "custom_text": True}, "preprocess_cfg": {}}
    (folder / "config.json").write_text(json.dumps(told))
    return f"open_clip:{folder}/config.json/w.safetensors", model.eval()


def load(name: str) -> Backbone:
    """The backbone of a name, on the processor."""
    return load_backbone(EncoderName.parse(name), CPU)


def settings(name: str, method: str, **more: Any) -> Finetune:
    """The section of a recipe."""
    return Finetune.model_validate({"model": name, "method": method, **more})


def pixels(count: int, seed: int = 1, side: int = 16) -> torch.Tensor:
    """Prepared images of noise."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def write_model(directory: Path, clip: str, method: str, **adapter: Any) -> str:
    """A model directory as training leaves it, of weights that were only moved; its name as an encoder."""
    torch.manual_seed(3)
    asked = settings(clip, method, adapter=adapter)
    made = build_method(load(clip), asked)
    with torch.no_grad():
        for value in made.parameters():
            if value.requires_grad:
                value.add_(0.05 * torch.randn_like(value))
    place = ModelDirectory(Location(str(directory)))
    place.directory.make_directory()
    place.finish(write_result(place.directory, made, asked))
    return f"connote:{directory}"
