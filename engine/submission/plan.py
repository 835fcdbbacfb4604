"""Which jobs a recipe is, as command lines that run in its working directory on a cluster."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import RecipeError
from engine.recipe import Recipe

#: Sections that `connote run` needs one of; with it that one job does every section.
_STAGES = ("describe", "associate", "caption", "vqascore", "embed")
#: Sections that do without: every other one needs the vectors of `embed`.
_ALONE = ("evaluate", "finetune")


@dataclass(frozen=True)
class Job:
    """One of a recipe's jobs: its name, and the command line that does it."""

    name: str
    command: str


@dataclass(frozen=True)
class Plan:
    """What is to be complete, and how hard it is tried.

    Attributes:
        jobs: in their order.
        attempts: that each has, one that was found running among them.
        pause_s: before the second attempt, in seconds; it doubles with each, up to five minutes.
        patience_s: how long a cluster that does not answer is asked again, in seconds.
    """

    jobs: Sequence[Job]
    attempts: int = 10
    pause_s: float = 10.0
    patience_s: float = 1800.0


def jobs_of(recipe: Recipe, path: Path, root: Path, options: Sequence[str]) -> list[Job]:
    """The jobs that complete a recipe, in their order.

    A recipe with a stage is one job, `jobs.mine`: it does all sections, each where it stopped. Without
    a stage that job is refused, and what other runs or the images alone suffice for has its own.

    Args:
        recipe: the recipe.
        path: where it lies.
        root: the working directory that is sent.
        options: of the command, as `--out` and `--set`.

    Raises:
        RecipeError: it asks for nothing, or lies outside the working directory.
    """
    names = (
        ["mine"]
        if any(getattr(recipe, stage) for stage in _STAGES)
        else [name for name in _ALONE if getattr(recipe, name)]
    )
    if not names:
        raise RecipeError(f"{path}: it has no section that computes anything; docs/recipe.md lists them")
    if not path.resolve().is_relative_to(root.resolve()):
        raise RecipeError(
            f"{path}: it lies outside the working directory {root}, which is what the cluster gets; run the "
            "command from a directory that holds the recipe and the files it names"
        )
    inside = path.resolve().relative_to(root.resolve()).as_posix()
    return [Job(name, shlex.join(["python", "-m", f"jobs.{name}", inside, *options])) for name in names]
