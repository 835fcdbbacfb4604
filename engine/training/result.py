"""What training leaves: a model for open_clip or transformers, or a method's weights over its backbone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from engine.encoders.fine_tuned_about import read_about
from engine.encoders.names import EncoderName
from engine.encoders.open_clip_models import save_tokenizer
from engine.errors import RecipeError
from engine.recipe.finetune import Finetune
from engine.storage import Location, digest_of
from engine.training.backbone import Backbone
from engine.training.load import load_backbone
from engine.training.method import Method
from engine.training.methods import build_method
from engine.training.methods.lora import merged_weights
from engine.training.tensors import take

#: As open_clip names the two files of a directory (`local-dir:`).
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
#: The weights of a method that stands on a frozen backbone.
TRAINED = "method.safetensors"


def trained_weights(method: Method) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: value for name, value in method.named_parameters() if value.requires_grad}


def write_result(directory: Location, method: Method, settings: Finetune) -> dict[str, Any]:
    """Write the model's files; returns what `connote.json` says of them."""
    backbone = method.backbone
    about = {
        "method": settings.method,
        "model": settings.model,
        "settings": settings.model_dump(mode="json"),
        "width": backbone.width,
        "vectors": settings.adapter.embeddings if settings.method in ("pvse", "dive") else 1,
        "side": backbone.side,
    }
    if method.similarity_settings:
        about["similarity"] = method.similarity_settings
    if settings.method in ("full", "lora"):
        bias = getattr(method, "logit_bias", None)
        if bias is not None and backbone.logit_bias is None:
            about["logit_bias"] = float(bias.detach())  # the model's own form has no place for it
        weights = {name: value.detach().cpu() for name, value in merged_weights(backbone.model).items()}
        if backbone.name.backend == "hf":
            return {**about, **_write_transformers(directory, backbone, weights)}
        return {**about, **_write_open_clip(directory, backbone, weights)}
    trained = {name: value.detach().cpu().contiguous() for name, value in trained_weights(method).items()}
    data = save_tensors(trained)
    (directory / TRAINED).write_bytes(data)
    base = backbone.name.digest()
    return {**about, "form": "method", "files": TRAINED, "base": base, "digest": digest_of(base, data)}


def load_method(directory: Location, device: torch.device) -> tuple[Method, dict[str, Any]]:
    """A method with its trained weights on its backbone, in evaluation mode.

    Raises:
        RecipeError: no finished model lies there, or its backbone is gone or another.
        StorageError: the weights do not fit it.
    """
    about = read_about(directory)
    settings = Finetune.model_validate(about["settings"])
    name = EncoderName.parse(settings.model)
    if name.digest() != about["base"]:
        raise RecipeError(
            f"{directory.uri}: was trained on another '{name.text}' than the one that is there now; put the "
            "old one back"
        )
    method = build_method(load_backbone(name, device), settings)
    weights = load_tensors((directory / about["files"]).read_bytes())
    take(trained_weights(method), weights, directory.uri)
    return method.to(device).eval().requires_grad_(False), about


def _write_open_clip(directory: Location, backbone: Backbone, weights: dict[str, Tensor]) -> dict[str, Any]:
    import open_clip

    files = backbone.name.files()
    if files:
        told = json.loads(files[0].read_text())
        settings = told.get("model_cfg", told)
    else:
        settings = open_clip.get_model_config(backbone.name.model.rpartition("/")[0])
    config = json.dumps({"model_cfg": settings, "preprocess_cfg": backbone.model.visual.preprocess_cfg})
    data = save_tensors({name: value.contiguous() for name, value in weights.items()})
    (directory / WEIGHTS).write_bytes(data)
    (directory / CONFIG).write_bytes(config.encode())
    with tempfile.TemporaryDirectory() as folder:
        words = save_tokenizer(backbone.name, Path(folder))
        for name in words:
            (directory / name).write_bytes(Path(folder, name).read_bytes())
    about = {"form": "open_clip", "files": f"{CONFIG}/{WEIGHTS}", "tokenizer": words}
    return {**about, "digest": digest_of(config, data)}


def _write_transformers(
    directory: Location, backbone: Backbone, weights: dict[str, Tensor]
) -> dict[str, Any]:
    import transformers

    from engine.encoders.transformers_models import where

    digests = list[str]()
    with tempfile.TemporaryDirectory() as name:
        backbone.model.save_pretrained(name, state_dict=weights)
        transformers.AutoImageProcessor.from_pretrained(**where(backbone.name)).save_pretrained(name)
        transformers.AutoTokenizer.from_pretrained(**where(backbone.name)).save_pretrained(name)
        for file in sorted(Path(name).iterdir()):
            data = file.read_bytes()
            (directory / "model" / file.name).write_bytes(data)
            digests.append(digest_of(file.name, data))
    return {"form": "hf", "files": "model", "digest": digest_of(*digests)}
