"""What an evaluation is asked: each model on each set, and where the answer lies."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from engine.difficulty.tables import Division
from engine.difficulty.voters import voters_of
from engine.embeddings import check_complete
from engine.errors import RecipeError
from engine.evaluation.pairs import PairTables, pair_tables
from engine.evaluation.tables import Evaluation
from engine.recipe import Recipe, TestSet
from engine.rundir import RunDirectory
from engine.storage import Location


@dataclass(frozen=True)
class Asked:
    """One model on one set.

    Attributes:
        model: its name.
        chosen: the set.
        run: where the set's pairs lie.
        pairs: their tables.
        division: whose categories they have; None where their run divides no such captions.
        plan: the parts.
        answer: the table of what the model reaches; not there before it is measured.
    """

    model: str
    chosen: TestSet
    run: RunDirectory
    pairs: PairTables
    division: Division | None
    plan: pa.Table
    answer: Location

    @property
    def similarities(self) -> Location:
        """The table of how similar its pairs are, schema SIMILARITIES; there when `answer` is."""
        return Location(f"{self.answer.uri.removesuffix('.parquet')}-similarities.parquet")

    def check_divided(self) -> None:
        """Refuse a set whose pairs are to have categories and have none yet.

        Raises:
            RecipeError: the message names the command that divides them.
        """
        if self.division is not None and not self.division.done:
            raise RecipeError(
                f"evaluate.sets, {self.chosen.name}: its pairs are not divided by difficulty yet; `connote "
                f"difficulty RECIPE` divides those of {self.run.root.uri}"
            )


def asked(recipe: Recipe, run: RunDirectory) -> list[Asked]:
    """All that the section `evaluate` asks, set by set.

    Raises:
        RecipeError: a set's run makes no such vectors, or lacks some.
        StorageError: there is no such run.
    """
    settings = recipe.evaluate
    assert settings is not None
    return [_asked(recipe, run, model, chosen) for chosen in settings.sets for model in settings.models]


def _asked(recipe: Recipe, run: RunDirectory, model: str, chosen: TestSet) -> Asked:
    source, own = run, recipe
    if chosen.run is not None:
        source = RunDirectory.at(chosen.run)
        own = source.read_recipe()
    together = chosen.same_texts == "together"
    pairs = pair_tables(own, source, model, chosen, f"evaluate.models, set {chosen.name}", together)
    plan = check_complete([pairs.images, pairs.captions], source.read_plan())
    division = None
    if own.difficulty and chosen.captions in own.difficulty.captions:
        division = Division.of(source, own, chosen.captions, voters_of(own, source), plan)
    assert recipe.evaluate is not None
    answer = Evaluation.of(run).one(pairs, division, recipe.evaluate, recipe.run.seed, plan)
    return Asked(model, chosen, source, pairs, division, plan, answer)
