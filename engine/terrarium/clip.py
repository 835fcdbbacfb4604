"""The embedded CLIP: a small open_clip model of the small world, in the form that open_clip loads.

Its image tower has the shape of the describing model's and begins with its weights, which were
taught kinds, colours and places; its text tower reads open_clip's own tokens.
"""

import json
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.terrarium.vision_shape import PATCH, vision_config
from engine.terrarium.world import SIDE

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_VISION: Final = vision_config()
SETTINGS: Final[dict[str, Any]] = {
    "model_cfg": {
        "embed_dim": 128,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": SIDE,
            "patch_size": PATCH,
            "layers": _VISION.num_hidden_layers,
            "width": _VISION.hidden_size,
            "head_width": _VISION.hidden_size // _VISION.num_attention_heads,
            "mlp_ratio": _VISION.intermediate_size / _VISION.hidden_size,
        },
        "text_cfg": {"context_length": 64, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 3},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
_TOWER: Final = "vision_tower.vision_model."


def build() -> open_clip.CLIP:
    """The model with random weights, float32."""
    return open_clip.CLIP(**SETTINGS["model_cfg"])


def tokenizer() -> open_clip.SimpleTokenizer:
    """open_clip's own, cut at the model's length."""
    return open_clip.SimpleTokenizer(context_length=SETTINGS["model_cfg"]["text_cfg"]["context_length"])


def take_tower(model: open_clip.CLIP, directory: Path) -> None:
    """Give the image tower the weights of the describing model's.

    Args:
        model: of `build`.
        directory: a model directory as `engine.terrarium.model.save` writes it.
    """
    stored = load_file(directory / "model.safetensors")
    tower = {
        name.removeprefix(_TOWER): value.float() for name, value in stored.items() if name.startswith(_TOWER)
    }
    missing, unexpected = model.visual.load_state_dict(dict(_renamed(tower)), strict=False)
    if missing != ["proj"] or unexpected:
        raise ValueError(f"{directory}: its vision tower has another shape: {missing}, {unexpected}")


def save(model: open_clip.CLIP, directory: Path) -> None:
    """Write CONFIG and WEIGHTS (float16), which `open_clip:CONFIG/WEIGHTS` names."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps(SETTINGS, indent=2) + "\n", encoding="utf-8")
    weights = {name: value.detach().half().contiguous().cpu() for name, value in model.state_dict().items()}
    save_file(weights, directory / WEIGHTS)


def _renamed(tower: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    """The weights under open_clip's names; transformers keeps queries, keys and values apart."""
    found = [
        ("conv1.weight", tower["embeddings.patch_embedding.weight"]),
        ("class_embedding", tower["embeddings.class_embedding"]),
        ("positional_embedding", tower["embeddings.position_embedding.weight"]),
    ]
    for ours, theirs in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        found += [(f"{ours}.{kind}", tower[f"{theirs}.{kind}"]) for kind in ("weight", "bias")]
    parts = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for layer in range(_VISION.num_hidden_layers):
        block, source = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            qkv = [tower[f"{source}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
            found.append((f"{block}.attn.in_proj_{kind}", torch.cat(qkv)))
            found += [
                (f"{block}.{ours}.{kind}", tower[f"{source}.{theirs}.{kind}"])
                for ours, theirs in parts.items()
            ]
    return found
