"""The jobs that read a run's vectors, one by one: `connote cluster`, `polysemy` and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import typer

from engine.errors import RecipeError
from jobs.options import Address, Out, RecipePath, Settings, Verbose, Wait
from jobs.prepare import prepare

#: What `connote --help` says of each.
ANALYSES: Final = {
    "cluster": "Cluster the images of a run that has its vectors, and sample them: "
    "the sections cluster and sample.",
    "polysemy": "Measure the polysemy of a run that has its vectors: "
    "the section polysemy, and cluster before it.",
    "difficulty": "Divide captions into easy, medium and hard by the votes of several models: "
    "the section difficulty.",
    "evaluate": "Measure how well models find captions' images, and images' captions: the section evaluate.",
}
#: Sections that a job leaves alone. Polysemy is told by clusters, and evaluations
#: by difficulty, so they keep these.
_OTHERS: Final = {
    "cluster": ("polysemy", "difficulty", "evaluate"),
    "polysemy": ("difficulty", "evaluate"),
    "difficulty": ("cluster", "sample", "polysemy", "evaluate"),
    "evaluate": ("cluster", "sample", "polysemy"),
}


def command_of(job: str) -> Callable[..., None]:
    """The command of one of `ANALYSES`: it runs that job over a run, and says where its results lie.

    It raises RecipeError where the recipe is wrong or has no such section, or the run has no vectors, and
    RunHeld where another command works on the run.
    """

    def command(
        recipe_path: RecipePath,
        out: Out = None,
        settings: Settings = None,
        address: Address = None,
        verbose: Verbose = False,
        wait: Wait = False,
    ) -> None:
        from engine.flow.analyse import analyse
        from engine.lease import held

        recipe, directory = prepare(recipe_path, out, settings or [])
        if getattr(recipe, job) is None:
            raise RecipeError(f"{recipe_path}: it has no section {job}; docs/recipe.md lists its settings")
        alone = recipe.model_copy(update=dict.fromkeys(_OTHERS[job]))
        with held(directory.root, f"connote {job}", wait=wait, say=typer.echo):
            lines = analyse(alone, directory, address=address, verbose=verbose, wait=wait, say=typer.echo)
            # So that `connote status`, and runs that read this one, know what was made.
            directory.write_recipe(recipe)
        for line in lines:
            typer.echo(line)

    return command
