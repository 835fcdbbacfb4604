"""The models that are compared, opened as methods, and what they find of the held-out scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.encoders import EncoderName
from engine.encoders.fine_tuned_about import read_about
from engine.recipe.finetune import Finetune
from engine.storage import Location, digest_of
from engine.terrarium.held_out import TextSet, held_out_scenes, text_sets
from engine.terrarium.measure import SetRanks, measure
from engine.terrarium.render import image
from engine.terrarium.world import Scene
from engine.training.load import load_backbone
from engine.training.method import Method
from engine.training.methods import build_method
from engine.training.result import load_method

_PARTS = ("scenes", "text_to_image", "image_to_text")


@dataclass(frozen=True)
class Searched:
    """The held-out scenes, prepared, and the texts about them."""

    scenes: Sequence[Scene]
    pixels: Tensor
    sets: Sequence[TextSet]


def prepare(images: int, method: Method) -> Searched:
    """The first held-out scenes as a model sees them; those fine-tuned from it see the same pixels."""
    scenes = held_out_scenes(images)
    pixels = torch.stack([method.backbone.prepare(image(one)) for one in scenes])
    return Searched(scenes, pixels, text_sets(scenes))


def open_encoder(name: str) -> Method:
    """A CLIP by its name as a method that compares by cosines.

    Raises:
        RecipeError: there is no such model.
    """
    backbone = load_backbone(EncoderName.parse(name), torch.device("cpu"))
    return build_method(backbone, Finetune(method="full", model=name)).eval()


def open_model(directory: Location) -> Method:
    """A fine-tuned model, with its method's own similarity.

    Raises:
        RecipeError: no finished model lies there, or it does not fit its backbone.
    """
    about = read_about(directory)
    if about["form"] == "method":
        return load_method(directory, torch.device("cpu"))[0]
    return open_encoder(f"open_clip:{directory.uri}/{about['files']}")


def measure_model(directory: Location, searched: Searched, kept: Path) -> dict[str, SetRanks]:
    """What `measure` says of a fine-tuned model.

    Args:
        directory: of the model.
        searched: what is searched.
        kept: a directory of earlier answers, by digest of model and texts; this one is added.
    """
    texts = [text for each in searched.sets for text in each.texts]
    key = digest_of(read_about(directory)["digest"], str(len(searched.scenes)), *texts)
    file = kept / f"{directory.name}-{key}.npz"
    if not file.exists():
        kept.mkdir(parents=True, exist_ok=True)
        found = measure(open_model(directory), searched.pixels, searched.sets)
        unfinished = file.with_name(f"unfinished-{file.name}")
        np.savez(
            unfinished, **{f"{name}/{part}": getattr(found[name], part) for name in found for part in _PARTS}
        )
        unfinished.rename(file)
    with np.load(file) as answers:
        return {
            each.name: SetRanks(*(answers[f"{each.name}/{part}"] for part in _PARTS))
            for each in searched.sets
        }
