"""What an evaluation is asked: each model on each set, and where the answer lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import pyarrow as pa

from engine.difficulty.tables import Division
from engine.difficulty.voters import voters_of
from engine.embeddings import check_complete
from engine.errors import RecipeError
from engine.evaluation.labels import Labels
from engine.evaluation.pairs import PairTables, pair_tables
from engine.evaluation.reference import published
from engine.evaluation.tables import Evaluation
from engine.export.mined import open_run
from engine.recipe import Pairs, Preference, Recipe, TestSet
from engine.recipe.texts import field_of
from engine.rundir import RunDirectory
from engine.storage import Location, digest_of

_Found = TypeVar("_Found")
_Chosen = TypeVar("_Chosen", TestSet, Preference)


class Answered(Protocol):
    """What has an answer: one model on one set."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def chosen(self) -> TestSet | Preference:
        """The set, or the preference."""
        ...

    @property
    def answer(self) -> Location:
        """The table of what was found; its name tells all that decides it."""
        ...


@dataclass(frozen=True)
class Asked:
    """One model on one set.

    Attributes:
        model: its name.
        chosen: the set, or the preference.
        run: where the set's pairs lie.
        pairs: their tables.
        categories: where theirs are from; None where the set names no labels and its run divides no such
            captions.
        negatives: tables of pairs that do not match; None where those are drawn.
        plan: the parts.
        answer: the table of what the model reaches; not there before it is measured.
    """

    model: str
    chosen: TestSet | Preference
    run: RunDirectory
    pairs: PairTables
    categories: Division | Labels | None
    negatives: PairTables | None
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
        if isinstance(self.categories, Division) and not self.categories.done:
            raise RecipeError(
                f"{self.chosen.place}: its pairs are not divided by difficulty yet; `connote "
                f"difficulty RECIPE` divides those of {self.run.root.uri}"
            )


def asked(recipe: Recipe, run: RunDirectory) -> list[Asked]:
    """All that the section `evaluate` asks, set by set, then preference by preference.

    Raises:
        RecipeError: a set's run makes no such vectors, or lacks some.
        StorageError: there is no such run.
    """
    assert recipe.evaluate is not None
    for chosen in recipe.evaluate.sets:
        if chosen.reference:
            published(chosen.reference)  # refused here rather than when all is measured
    preferences = recipe.evaluate.preferences
    return [
        *of_each_set(recipe, run, partial(_of_set, recipe, run)),
        *_of_each(recipe, run, preferences, partial(_of_preference, recipe, run)),
    ]


def of_each_set(
    recipe: Recipe, run: RunDirectory, make: Callable[[TestSet, Recipe, RunDirectory], Sequence[_Found]]
) -> list[_Found]:
    """What `make` makes of each set, the recipe of its run and its run.

    Raises:
        RecipeError: `make` refuses a set; of another run's the message names set and run.
        StorageError: there is no such run.
    """
    assert recipe.evaluate is not None
    return _of_each(recipe, run, recipe.evaluate.sets, make)


def _of_each(
    recipe: Recipe,
    run: RunDirectory,
    asked: Sequence[_Chosen],
    make: Callable[[_Chosen, Recipe, RunDirectory], Sequence[_Found]],
) -> list[_Found]:
    """The same of sets or of preferences."""
    found = list[_Found]()
    for chosen in asked:
        source, own = run, recipe
        if chosen.run is not None:
            source = RunDirectory.at(chosen.run)
            own = source.read_recipe()
        try:
            found += make(chosen, own, source)
        except RecipeError as error:
            if chosen.run is None:
                raise
            raise RecipeError(f"{chosen.place} ({source.root.uri}): {error}") from error
    return found


def told_of(work: Sequence[Answered]) -> str:
    """A digest of what the page of an evaluation tells: which answers, by which names."""
    return digest_of(*(f"{one.model} {one.chosen} {one.answer.name}" for one in work))


def _of_set(
    recipe: Recipe, run: RunDirectory, chosen: TestSet, own: Recipe, source: RunDirectory
) -> list[Asked]:
    """Every model on one set, whose pairs lie in the run `source` by the recipe `own`."""
    settings, plan, found = recipe.evaluate, source.read_plan(), list[Asked]()
    categories: Division | Labels | None = None
    assert settings is not None
    section, together = f"evaluate.models, set {chosen.name}", chosen.same_texts == "together"
    for model in settings.models:
        pairs = pair_tables(own, source, model, chosen, section, together, own=True)
        negatives = None
        if chosen.negatives:
            refused = Pairs(captions=chosen.negatives)
            negatives = pair_tables(own, source, model, refused, f"{section}, negatives", own=True)
        tables = [pairs.images, pairs.captions, *([negatives.captions] if negatives else [])]
        plan = check_complete(tables, plan)
        if not found:
            categories = _categories(chosen, own, source, pairs, plan)
        answer = Evaluation.of(run).one(pairs, categories, negatives, settings, recipe.run.seed, plan)
        found.append(Asked(model, chosen, source, pairs, categories, negatives, plan, answer))
    return found


def _categories(
    chosen: TestSet, own: Recipe, source: RunDirectory, pairs: PairTables, plan: pa.Table
) -> Division | Labels | None:
    """Labels that the set names, or the division of such captions of its run."""
    if chosen.categories and (field := field_of(chosen.categories)):
        return Labels.of_pairs(open_run(source, own), pairs, field)
    if own.difficulty and chosen.captions in own.difficulty.captions:
        return Division.of(source, own, chosen.captions, voters_of(own, source), plan)
    return None


def _of_preference(
    recipe: Recipe, run: RunDirectory, chosen: Preference, own: Recipe, source: RunDirectory
) -> list[Asked]:
    """Every model on one preference; see `_of_set`."""
    settings, plan, found = recipe.evaluate, source.read_plan(), list[Asked]()
    assert settings is not None
    for model in settings.models:
        section = f"evaluate.models, preference {chosen.name}"
        pairs = pair_tables(own, source, model, chosen, section, together=True, own=True)
        plan = check_complete([pairs.images, pairs.captions], plan)
        answer = Evaluation.of(run).preference(pairs, chosen, settings, recipe.run.seed, plan)
        found.append(Asked(model, chosen, source, pairs, None, None, plan, answer))
    return found
