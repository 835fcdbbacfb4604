"""The width of a sentence-transformers model's vectors, from its files, without its weights.

Such a model is a row of modules, listed in modules.json, each with settings of its own. What
the library would do to a model that does not fit is not done here: it would pool any
transformer by its mean, turn rerankers into embedding models, and replace activations that it
does not know; all of that gives plausible vectors that retrieve badly.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import EntryNotFoundError

from engine.encoders.model_files import read_json
from engine.encoders.names import EncoderName
from engine.errors import RecipeError

_KIND = "SentenceTransformer"
_PREFIX = "sentence_transformers."
_OWN = "if you trust it, write a factory for it and name that: python:MODULE:FACTORY"
#: Of a dense layer that names none.
_TANH = "torch.nn.modules.activation.Tanh"
#: Modules that leave the width as the one before gave it.
_KEEPS = ("Normalize", "Dropout", "WordWeights")
#: What says the width in the settings of the others, under its name of today and of earlier versions.
_WIDTH = {
    "Dense": ("out_features",),
    "LayerNorm": ("dimension",),
    "Pooling": ("embedding_dimension", "word_embedding_dimension"),
    "Transformer": ("hidden_size",),
}


def sentence_width(name: EncoderName) -> int:
    """Components of a vector.

    Raises:
        RecipeError: there is no such model, it is of another kind, some module runs code of its
            own, or the width cannot be told.
    """
    modules = read_json(name, "modules.json", _cache())
    whole = _settings(name, "config_sentence_transformers.json")
    kind = whole.get("model_type", _KIND)
    if kind != _KIND:
        raise RecipeError(f"encoder '{name.text}': is a {kind}, not a {_KIND}: it gives no vector of a text")
    try:
        places = [(str(module["type"]), str(module["path"])) for module in modules]
    except (TypeError, KeyError) as error:
        raise RecipeError(
            f"encoder '{name.text}': its modules.json is no list of modules: {error!r}"
        ) from error
    for module, path in places:
        _check(name, module, path)
    try:
        width = _fold(name, places)
        cut = whole.get("truncate_dim")
        return min(width, int(cut)) if cut else width
    except (TypeError, ValueError) as error:
        raise RecipeError(f"encoder '{name.text}': a width in its files is no number: {error}") from error


def _check(name: EncoderName, module: str, path: str) -> None:
    """Refuse code that comes with a model, and an activation that the library would replace by tanh."""
    if not module.startswith(_PREFIX):
        raise RecipeError(
            f"encoder '{name.text}': its module {module} is code of the model's own, which is not run; {_OWN}"
        )
    if _short(module) == "Dense":
        activation = str(_settings(name, "config.json", path).get("activation_function", _TANH))
        if not activation.startswith("torch."):
            raise RecipeError(
                f"encoder '{name.text}': the activation {activation} of {path} is not one of torch's and is "
                f"not run; {_OWN}"
            )


def _fold(name: EncoderName, places: list[tuple[str, str]]) -> int:
    """The width after the last module that sets one."""
    for module, path in reversed(places):
        short = _short(module)
        if short in _KEEPS:
            continue
        if short not in _WIDTH:
            break
        settings = _settings(name, "config.json", path)
        for key in _WIDTH[short]:
            if key in settings:
                return int(settings[key]) * (_parts(settings) if short == "Pooling" else 1)
        break
    else:
        short = "modules.json"
    raise RecipeError(
        f"encoder '{name.text}': the width of its vectors cannot be told from its files ({short}); "
        "write a factory for it and name that: python:MODULE:FACTORY"
    )


def _parts(pooling: Mapping[str, Any]) -> int:
    """How many pooled vectors lie side by side; by their mean alone if none is named."""
    mode = pooling.get("pooling_mode")
    if mode is None:
        return sum(bool(value) for key, value in pooling.items() if key.startswith("pooling_mode_")) or 1
    return 1 if isinstance(mode, str) else len(mode)


def _settings(name: EncoderName, file: str, folder: str = "") -> Mapping[str, Any]:
    """A file that a model need not have; empty if it has none."""
    try:
        found = read_json(name, f"{folder}/{file}".lstrip("/"), _cache())
    except RecipeError as error:
        if isinstance(error.__cause__, (FileNotFoundError, EntryNotFoundError)):
            return {}
        raise
    return found if isinstance(found, dict) else {}


def _short(module: str) -> str:
    return module.rpartition(".")[2]


def _cache() -> str | None:
    """Where the library keeps what it takes from the hub; None where it leaves that to the hub."""
    return os.environ.get("SENTENCE_TRANSFORMERS_HOME")
