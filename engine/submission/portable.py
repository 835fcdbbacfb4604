"""What of a recipe means another place on a cluster's nodes than here, and what is passed on to them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from engine.errors import RecipeError
from engine.recipe import Recipe

#: An encoder in a run directory.
_TRAINED_HERE = "connote:"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_paths(recipe: Recipe) -> None:
    """Refuse data and run directories whose paths depend on where a command runs.

    Raises:
        RecipeError: with each setting.
    """
    bad = [f"{setting}: '{uri}'" for setting, uri in _data(recipe) if _is_relative(uri)]
    if bad:
        raise RecipeError(
            "on a cluster these would be looked for in the unpacked working directory of each node, which "
            "holds no data: "
            + ", ".join(bad)
            + "; write a path that starts with / and that all nodes reach, "
            "or an s3:// or gs:// URI"
        )


def places(recipe: Recipe) -> list[str]:
    """The settings whose paths all nodes must reach alike: local ones."""
    return [f"{setting} {uri}" for setting, uri in _data(recipe) if "://" not in uri]


def _data(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Every setting that names data or a run directory, and its value."""
    yield "run.out", recipe.run.out or ""
    uris = recipe.images.uri
    for uri in (uris,) if isinstance(uris, str) else uris:
        yield "images.uri", uri
    if recipe.images.annotations:
        yield "images.annotations", recipe.images.annotations
    for name in recipe.embed.encoders if recipe.embed else ():
        if name.startswith(_TRAINED_HERE):
            yield "embed.encoders", name.removeprefix(_TRAINED_HERE)
    if recipe.evaluate:
        for each in recipe.evaluate.asked:
            if each.run:
                yield each.place, each.run
    if recipe.difficulty and recipe.difficulty.calibration.run:
        yield "difficulty.calibration.run", recipe.difficulty.calibration.run


def _is_relative(uri: str) -> bool:
    # A home directory is that of whoever started the node.
    return "://" not in uri and not uri.startswith("/")


def environment(asked: Sequence[str], here: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that are passed on: NAME with the value it has here, or NAME=VALUE.

    Raises:
        RecipeError: it is no name, or has no value here. Values are never shown.
    """
    found = {}
    for each in asked:
        name, equals, value = each.partition("=")
        if not _NAME.fullmatch(name):
            raise RecipeError("--env: write it as NAME or NAME=VALUE; a name has letters, digits and _ only")
        if name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
            raise RecipeError(f"--env {name}: Ray sets it for its jobs; leave it out")
        if not equals and name not in here:
            raise RecipeError(f"--env {name}: it is not set here; set it, or write {name}=VALUE")
        found[name] = value if equals else here[name]
    return found
