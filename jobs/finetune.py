"""The fine-tuning job over a run: `connote finetune RECIPE`, `python -m jobs.finetune RECIPE`."""

from __future__ import annotations

from pathlib import Path

from engine.errors import RecipeError
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from jobs.mine import prepare


def prepare_finetune(path: Path, out: str | None, settings: list[str]) -> tuple[Recipe, RunDirectory]:
    """A recipe with a section `finetune`, and its run directory.

    Raises:
        RecipeError: the recipe is wrong, or has no such section.
    """
    recipe, directory = prepare(path, out, settings)
    if recipe.finetune is None:
        raise RecipeError(f"{path}: it has no section finetune; docs/recipe.md lists its settings")
    return recipe, directory


if __name__ == "__main__":
    from jobs.command import run_as_command

    run_as_command("finetune")
