"""Reading a recipe from YAML, and telling people what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from engine.errors import RecipeError
from engine.recipe.analysis import Cluster, Polysemy, Sample
from engine.recipe.embedding import Embed
from engine.recipe.evaluation import Calibration, Difficulty, Evaluate, Preference, TestSet
from engine.recipe.finetune import Finetune
from engine.recipe.finetune_parts import Adapter, TrainingData
from engine.recipe.generators import OpenAI, Scripted, Vllm
from engine.recipe.inputs import Images, Run
from engine.recipe.stages import Associate, Caption, Describe, VQAScore
from engine.recipe.whole import Recipe


def load_recipe(path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key.key=value` settings (values are YAML) on top of it.

    Raises:
        RecipeError: the file is missing or no YAML mapping, or a key or value is wrong; the
            message names each.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"recipe {path}: {error.strerror}; name a YAML file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {path}: not UTF-8 text (byte {error.start}); name a YAML file") from error
    return parse_recipe(text, settings, origin=str(path))


def parse_recipe(text: str, settings: Sequence[str] = (), origin: str = "recipe") -> Recipe:
    """Parse the text of a recipe; see `load_recipe`."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{origin}: a recipe is a YAML mapping with a section `images`")
    for setting in settings:
        _apply(data, setting)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{origin}: {_explain(error)}") from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, defaults included."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(data: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    if not equals or not path.strip():
        raise RecipeError(f"--set {setting}: write it as section.key=value")
    *parents, last = path.strip().split(".")
    place: Any = data
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else place
        if not isinstance(place, dict):
            raise RecipeError(f"--set {setting}: '{parent}' is a value, not a section")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {setting}: the value is not valid YAML: {error}") from error


def _explain(error: ValidationError) -> str:
    """One line per key: its path, then what is wrong with it, and what it is."""
    lines: dict[str, list[str]] = {}
    is_now: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        path, given = ".".join(_keys(detail["loc"])) or "recipe", detail["input"]
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = f"unknown key{_suggest(detail['loc'])}"
        elif detail["type"] != "value_error" and isinstance(given, str | int | float):
            is_now[path] = f"; it is {given!r}"
            if detail["type"] == "tuple_type":  # what a list of the recipe becomes
                message = f"write a list, as [{given}]"
        lines.setdefault(path, []).append(message)
    told = [
        f"{path}: {', or: '.join(dict.fromkeys(messages))}{is_now.get(path, '')}"
        for path, messages in lines.items()
    ]
    return "\n  ".join([f"{len(told)} setting(s) refused:", *told])


def _keys(location: Sequence[str | int]) -> list[str]:
    """The keys as the recipe has them: pydantic adds which kind of a union it tried."""
    keys = [str(key) for key in location]
    if keys[:1] == ["generators"] and len(keys) > 2 and keys[2] in _BACKENDS:
        del keys[2]
    return [key for key in keys if key not in _TYPES and "[" not in key]


_BACKENDS: Mapping[str, type[BaseModel]] = {"vllm": Vllm, "openai": OpenAI, "scripted": Scripted}
_TYPES = {"int", "str", "float", "bool"}
_SECTIONS: Mapping[str, type[BaseModel]] = {
    "images": Images,
    "run": Run,
    "describe": Describe,
    "associate": Associate,
    "caption": Caption,
    "vqascore": VQAScore,
    "embed": Embed,
    "cluster": Cluster,
    "sample": Sample,
    "polysemy": Polysemy,
    "difficulty": Difficulty,
    "calibration": Calibration,
    "evaluate": Evaluate,
    "sets": TestSet,
    "preferences": Preference,
    "finetune": Finetune,
    "data": TrainingData,
    "adapter": Adapter,
}


def _suggest(location: Sequence[str | int]) -> str:
    known: Mapping[str, Any] = Recipe.model_fields
    for section in location[:-1]:
        found = _BACKENDS if "generators" in location else _SECTIONS
        if section in found:
            known = found[str(section)].model_fields
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f" (known: {', '.join(known)})"
