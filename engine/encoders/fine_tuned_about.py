"""connote.json: what a directory of a fine-tuned model says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.errors import RecipeError
from engine.schema import LEVELS
from engine.storage import Location

#: Written last, so that its presence means that training is over.
DONE = "connote.json"


def read_about(directory: Location) -> dict[str, Any]:
    """What was said when training ended.

    Raises:
        RecipeError: the directory holds no finished model, or the file is damaged.
    """
    place = directory / DONE
    if not place.exists():
        raise RecipeError(
            f"{directory.uri}: holds no finished model (no {DONE}); run `connote finetune RECIPE` to the "
            "end, or correct the name: behind it may stand @LEVEL (prefix), @mean or @dot_product (pcme)"
        )
    try:
        about: dict[str, Any] = json.loads(place.read_bytes())
    except ValueError as error:
        raise RecipeError(
            f"{place.uri}: is damaged ({error}); put it back, or train the model anew"
        ) from error
    return about


def trained_levels(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The levels whose tokens a `prefix` model has learned, nearest first; the others' are random.

    Args:
        about: what `connote.json` says. Models that were finished before it told `levels` have those of
            their settings; of one that went on from another all, since what that had learned is not told.
    """
    settings = about["settings"]
    told = about.get("levels")
    if not told and not settings.get("start"):
        told = settings.get("data", {}).get("levels")
    return tuple(level for level in LEVELS if not told or level in told)
