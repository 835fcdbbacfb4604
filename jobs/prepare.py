"""What commands begin with: the recipe, as the options change it, and its run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import RecipeError
from engine.recipe import Recipe, Run, load_recipe
from engine.rundir import RunDirectory
from engine.statuses import OK, TOO_MANY_FAILED


def prepare(path: Path, out: str | None, settings: list[str]) -> tuple[Recipe, RunDirectory]:
    """Load a recipe and find its run directory; `out` stands above the recipe and the settings.

    Raises:
        RecipeError: the recipe is wrong, or nothing says where the run writes.
    """
    recipe = load(path, out, settings)
    if not recipe.run.out:
        raise RecipeError(
            f"{path}: run.out is not set; say where the run writes, in the recipe or with --out"
        )
    return recipe, RunDirectory.at(recipe.run.out)


def prepare_finetune(path: Path, out: str | None, settings: list[str]) -> tuple[Recipe, RunDirectory]:
    """A recipe with a section `finetune`, and its run directory.

    Raises:
        RecipeError: the recipe is wrong, or has no such section.
    """
    recipe, directory = prepare(path, out, settings)
    if recipe.finetune is None:
        raise RecipeError(f"{path}: it has no section finetune; docs/recipe.md lists its settings")
    return recipe, directory


def load(path: Path, out: str | None, settings: Sequence[str]) -> Recipe:
    """Load a recipe; `out` stands above the recipe and the settings.

    Raises:
        RecipeError: the recipe is wrong.
    """
    recipe = load_recipe(path, settings)
    if out is None:
        return recipe
    # Not as a setting: those are YAML, where 007 is a number and what follows " #" a comment.
    run = Run.model_validate({**recipe.run.model_dump(), "out": out})
    return recipe.model_copy(update={"run": run})


def exit_status(summary: dict[str, Any], max_failed_share: float) -> int:
    """0, or 1 when more samples failed than `max_failed_share` allows."""
    return TOO_MANY_FAILED if summary["failed_share"] > max_failed_share else OK
