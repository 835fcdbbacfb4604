"""What is known of an encoder from its configuration, without its weights."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from engine.encoders.model_files import read_json
from engine.encoders.names import EncoderName
from engine.encoders.protocol import Card
from engine.encoders.sentence_card import sentence_width
from engine.encoders.transformers_families import family_of
from engine.errors import RecipeError


@lru_cache(maxsize=64)
def abilities(name: EncoderName) -> tuple[bool, bool]:
    """Whether an encoder reads images, and whether it reads texts. Imports no model's library.

    Raises:
        RecipeError: there is no such model, or its family is not known.
    """
    match name.backend:
        case "open_clip":
            card = read_card(name)  # before images are cataloged for a model that does not exist
            return card.images, card.texts
        case "hf":
            return True, family_of(name, _model_type(name)).text is not None
        case "sentence":
            return False, True
        case "python" | "connote":
            card = read_card(name)
            return card.images, card.texts


def reads_lower(name: EncoderName) -> bool:
    """Whether texts are put into lower case first, which decides their vectors beside the model."""
    return name.backend == "hf" and family_of(name, _model_type(name)).lower


@lru_cache(maxsize=64)
def read_card(name: EncoderName) -> Card:
    """Read the configuration; an encoder of one's own is made, since only it can tell.

    Raises:
        RecipeError: there is no such model, or its family is not known.
    """
    match name.backend:
        case "open_clip":
            return _open_clip(name)
        case "hf":
            from engine.encoders.transformers_models import read_transformers_card

            return read_transformers_card(name)
        case "sentence":
            return Card(sentence_width(name), 1, False, True, 0)
        case "python":
            from engine.encoders.python_factory import load

            return Card.of(load(name.model, "cpu"))
        case "connote":
            from engine.encoders.fine_tuned_card import fine_tuned_card

            return fine_tuned_card(name)


def _model_type(name: EncoderName) -> str:
    """What config.json, here or on the hub, says of the model's family."""
    settings = read_json(name, "config.json")
    return str(settings.get("model_type") if isinstance(settings, dict) else None)


def _open_clip(name: EncoderName) -> Card:
    """From the JSON that open_clip reads, without importing it, which takes seconds."""
    files = name.files()
    if files is None:
        spec = find_spec("open_clip")
        assert spec is not None and spec.origin is not None
        folder = Path(spec.origin).parent / "model_configs"
        architecture = name.model.rpartition("/")[0]
        config = folder / f"{architecture}.json"
        if not config.is_file():
            raise RecipeError(
                f"encoder '{name.text}': open_clip has no architecture {architecture}; "
                "`open_clip.list_models()` lists them; of a model on a hub fetch the files, and name them as "
                "open_clip:CONFIG.json/WEIGHTS.safetensors"
            )
    else:
        config = files[0]
    try:
        settings = json.loads(config.read_text())
        settings = settings.get("model_cfg", settings)
        side = settings["vision_cfg"]["image_size"]
        width = int(settings["embed_dim"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"encoder '{name.text}': {config} is no open_clip configuration: {error!r}"
        ) from error
    # Preprocessing scales the shorter side to the model's and crops the middle.
    return Card(width, 1, True, True, max(side) if isinstance(side, list) else int(side))
