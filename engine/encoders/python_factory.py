"""Encoders of one's own: `python:module:factory`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from engine.encoders.own_similarity import COSINE, OwnSimilarity
from engine.encoders.protocol import Encoder
from engine.errors import RecipeError

_NEEDED = ("width", "vectors", "images", "texts", "side", "prepare", "embed_images", "embed_texts")


def find_factory(model: str) -> Callable[..., Encoder]:
    """The function that `module:factory` stands for.

    Raises:
        RecipeError: there is no such module or function.
    """
    module, _, attribute = model.partition(":")
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            f"encoder 'python:{model}': {error}; is the module installed, or on PYTHONPATH, on every node?"
        ) from error
    if not callable(found):
        raise RecipeError(f"encoder 'python:{model}': {attribute} is no function")
    return found  # type: ignore[no-any-return]


def load(model: str, device: str) -> Encoder:
    """Call the factory with the device; what it returns must have all that an `Encoder` has.

    Raises:
        RecipeError: it has not, or its similarity is none of ours.
    """
    encoder = find_factory(model)(device)
    missing = [each for each in _NEEDED if not hasattr(encoder, each)]
    if missing:
        raise RecipeError(f"encoder 'python:{model}': what the factory returns has no {', '.join(missing)}")
    if not isinstance(found := getattr(encoder, "similarity", COSINE), OwnSimilarity):
        raise RecipeError(
            f"encoder 'python:{model}': its similarity is {found!r}; make it one of "
            "engine.encoders.own_similarity, as in SmoothChamfer(16.0)"
        )
    return encoder
