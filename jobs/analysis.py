"""The jobs that read a run's vectors, one by one: `connote cluster`, `polysemy` and so on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from engine.errors import RecipeError
from jobs.prepare import prepare

#: Sections that a job leaves alone. Polysemy is told by clusters, and evaluations
#: by difficulty, so they keep these.
_OTHERS = {
    "cluster": ("polysemy", "difficulty", "evaluate"),
    "polysemy": ("difficulty", "evaluate"),
    "difficulty": ("cluster", "sample", "polysemy", "evaluate"),
    "evaluate": ("cluster", "sample", "polysemy"),
}


def analyse_part(
    job: Literal["cluster", "polysemy", "difficulty", "evaluate"],
    path: Path,
    out: str | None,
    settings: list[str],
    address: str | None,
    verbose: bool,
    wait: bool,
    say: Callable[[str], None],
) -> list[str]:
    """Run one job over a run directory; returns lines that say where its results lie.

    Raises:
        RecipeError: the recipe is wrong or has no such section, or the run has no vectors.
        RunHeld: another command works on the run.
    """
    from engine.flow.analyse import analyse
    from engine.lease import held

    recipe, directory = prepare(path, out, settings)
    if getattr(recipe, job) is None:
        raise RecipeError(f"{path}: it has no section {job}; docs/recipe.md lists its settings")
    alone = recipe.model_copy(update=dict.fromkeys(_OTHERS[job]))
    with held(directory.root, f"connote {job}", wait=wait, say=say):
        lines = analyse(alone, directory, address=address, verbose=verbose, wait=wait, say=say)
        # So that `connote status`, and runs that read this one, know what was made.
        directory.write_recipe(recipe)
    return lines
