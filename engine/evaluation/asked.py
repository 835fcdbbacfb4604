"""What an evaluation is asked: each model on each set, and where the answer lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.difficulty.tables import Division
from engine.difficulty.voters import voters_of
from engine.embeddings import check_complete
from engine.errors import RecipeError
from engine.evaluation.pairs import PairTables, pair_tables
from engine.evaluation.reference import published
from engine.evaluation.tables import Evaluation
from engine.recipe import Recipe, TestSet
from engine.rundir import RunDirectory
from engine.storage import Location, digest_of


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
    found = list[Asked]()
    for chosen in settings.sets:
        if chosen.reference:
            published(chosen.reference)  # refused here rather than when all is measured
        source, own = run, recipe
        if chosen.run is not None:
            source = RunDirectory.at(chosen.run)
            own = source.read_recipe()
        try:
            found += _of_set(recipe, run, chosen, own, source)
        except RecipeError as error:
            if chosen.run is None:
                raise
            raise RecipeError(f"evaluate.sets, {chosen.name} ({source.root.uri}): {error}") from error
    return found


def told_of(work: Sequence[Asked]) -> str:
    """A digest of what the page of an evaluation tells: which answers, by which names."""
    return digest_of(*(f"{one.model} {one.chosen} {one.answer.name}" for one in work))


def _of_set(
    recipe: Recipe, run: RunDirectory, chosen: TestSet, own: Recipe, source: RunDirectory
) -> list[Asked]:
    """Every model on one set, whose pairs lie in the run `source` by the recipe `own`."""
    settings, plan, division, found = recipe.evaluate, source.read_plan(), None, list[Asked]()
    assert settings is not None
    section, together = f"evaluate.models, set {chosen.name}", chosen.same_texts == "together"
    for model in settings.models:
        pairs = pair_tables(own, source, model, chosen, section, together, own=True)
        plan = check_complete([pairs.images, pairs.captions], plan)
        if not found and own.difficulty and chosen.captions in own.difficulty.captions:
            division = Division.of(source, own, chosen.captions, voters_of(own, source), plan)
        answer = Evaluation.of(run).one(pairs, division, settings, recipe.run.seed, plan)
        found.append(Asked(model, chosen, source, pairs, division, plan, answer))
    return found
