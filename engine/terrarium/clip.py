"""The embedded CLIPs: small open_clip models of the small world, in the form that open_clip loads.

An image tower is first taught kinds, colours and places as the describing model's was, and the largest
begins with that one's weights. The text tower reads open_clip's own tokens, or the terrarium's words.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import open_clip
from safetensors.torch import load_file, save_file
from torch import Tensor, cat

from engine.terrarium.clip_shapes import CONTEXT_LENGTH, EMBEDDER, Shape
from engine.terrarium.tokens import reading_tokenizer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: From texts to (n, context length) tokens.
Tokenize: TypeAlias = Callable[[Sequence[str]], Tensor]
_TOWER: Final = "vision_tower.vision_model."


def build(shape: Shape = EMBEDDER) -> open_clip.CLIP:
    """The model with random weights, float32."""
    return open_clip.CLIP(**shape.settings()["model_cfg"])


def tokenizer(shape: Shape = EMBEDDER) -> Tokenize:
    """open_clip's own, or the terrarium's words, cut at the model's length."""
    if not shape.own_words:
        return open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)  # type: ignore[no-any-return]
    with tempfile.TemporaryDirectory() as folder:
        reading_tokenizer().save_pretrained(folder)
        return open_clip.tokenizer.HFTokenizer(folder, CONTEXT_LENGTH)  # type: ignore[no-any-return]


def described_tower(directory: Path) -> dict[str, Tensor]:
    """The vision tower of a describing model's directory, as `engine.terrarium.model.save` writes it."""
    stored = load_file(directory / "model.safetensors")
    return {
        name.removeprefix(_TOWER): value.float() for name, value in stored.items() if name.startswith(_TOWER)
    }


def take_tower(model: open_clip.CLIP, tower: Mapping[str, Tensor]) -> None:
    """Give the image tower the weights of a tower of transformers.

    Raises:
        ValueError: it has another shape.
    """
    missing, unexpected = model.visual.load_state_dict(_renamed(tower), strict=False)
    if missing != ["proj"] or unexpected:
        raise ValueError(f"the vision tower has another shape: {missing}, {unexpected}")


def save(model: open_clip.CLIP, directory: Path, shape: Shape = EMBEDDER) -> None:
    """Write CONFIG and WEIGHTS (float16), which `open_clip:CONFIG/WEIGHTS` names, and its tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps(shape.settings(), indent=2) + "\n", encoding="utf-8")
    weights = {name: value.detach().half().contiguous().cpu() for name, value in model.state_dict().items()}
    save_file(weights, directory / WEIGHTS)
    if shape.own_words:
        reading_tokenizer().save_pretrained(directory)


def _renamed(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under open_clip's names; transformers keeps queries, keys and values apart."""
    found = {
        "conv1.weight": tower["embeddings.patch_embedding.weight"],
        "class_embedding": tower["embeddings.class_embedding"],
        "positional_embedding": tower["embeddings.position_embedding.weight"],
    }
    for ours, theirs in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        found |= {f"{ours}.{kind}": tower[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    parts = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    layers = sum(name.endswith("mlp.fc1.weight") for name in tower)
    for layer in range(layers):
        block, source = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            qkv = [tower[f"{source}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
            found[f"{block}.attn.in_proj_{kind}"] = cat(qkv)
            found |= {
                f"{block}.{ours}.{kind}": tower[f"{source}.{theirs}.{kind}"] for ours, theirs in parts.items()
            }
    return found
