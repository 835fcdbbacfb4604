"""What is known of a model that was fine-tuned here without loading it: vectors and similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.encoders.fine_tuned_about import read_about, trained_levels
from engine.encoders.names import VIEWS, EncoderName
from engine.encoders.own_similarity import (
    Cosine,
    DotProduct,
    MatchingProbability,
    OwnSimilarity,
    SmoothChamfer,
)
from engine.encoders.protocol import Card
from engine.errors import RecipeError
from engine.schema import LEVELS
from engine.storage import Location, locate

#: a of the `dive` models that were finished before `connote.json` told it.
_SHARPNESS = 16.0


def fine_tuned_card(name: EncoderName) -> Card:
    """See `engine.encoders.card.read_card`.

    Raises:
        RecipeError: there is no finished model, or it has no such view, or has not learned that level.
    """
    place = locate(name.model)
    about = read_about(place)
    _check(name, about)
    vectors, similarity = _compared(name, place, about)
    # A backbone reads pictures and texts, and so does all that is trained on it, alike.
    return Card(about["width"], vectors, True, True, about["side"], vectors, similarity)


def _check(name: EncoderName, about: Mapping[str, Any]) -> None:
    method = about["method"]
    if name.revision in LEVELS and method != "prefix":
        raise RecipeError(
            f"encoder '{name.text}': a model of method {method} has no levels; leave out @{name.revision}"
        )
    # Tokens of a level without captions are as they were drawn: noise in the picture.
    if name.revision in LEVELS and name.revision not in (learned := trained_levels(about)):
        raise RecipeError(
            f"encoder '{name.text}': was trained on captions of {', '.join(learned)} only (data.levels), and "
            f"has learned nothing of {name.revision}; name one of these behind @, or leave out "
            f"@{name.revision}"
        )
    if name.revision in VIEWS and method != "pcme":
        raise RecipeError(
            f"encoder '{name.text}': a model of method {method} draws no samples; leave out @{name.revision}"
        )


def _compared(name: EncoderName, place: Location, about: Mapping[str, Any]) -> tuple[int, OwnSimilarity]:
    """Vectors of an image and of a text, and their similarity."""
    vectors = int(about["vectors"])
    match about["method"], name.revision:
        case "pcme", "mean":
            return 1, Cosine()
        case "pcme", "dot_product":
            return 1, DotProduct()
        case "pcme", _:
            told = about.get("similarity") or _learned(place, about)
            return about["settings"]["adapter"]["samples"], MatchingProbability(told["scale"], told["shift"])
        case "dive", _ if vectors > 1:
            told = about.get("similarity") or {"sharpness": _SHARPNESS}
            return vectors, SmoothChamfer(told["sharpness"])
    # Smooth-Chamfer of single vectors is their cosine.
    return vectors, Cosine()


def _learned(place: Location, about: Mapping[str, Any]) -> dict[str, float]:
    """Scale and shift of a `pcme` model that was finished before `connote.json` told them."""
    from safetensors.numpy import load

    weights = load((place / about["files"]).read_bytes())
    return {name: float(weights[name]) for name in ("scale", "shift")}
