"""The evaluation job on Ray: each model on each set, what was measured before left as it is."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.csv

from engine.analyses import note_made
from engine.errors import RecipeError
from engine.evaluation.asked import Asked
from engine.evaluation.negatives import Others, pair_figures
from engine.evaluation.page import page
from engine.evaluation.pictures import auprc_picture, similarities_picture
from engine.evaluation.similarities import similarity_rows
from engine.evaluation.tables import FIGURES, Evaluation, figure_rows, renamed
from engine.evaluation.vqascore import ScoresAsked
from engine.evaluation.work import Work
from engine.flow.co_captions import measure_co_captions, tell_co_captions
from engine.flow.preference import measure_preference
from engine.flow.ranks import Ranked, rank_pairs
from engine.flow.refused import compare_refused
from engine.flow.spread import call
from engine.flow.vqascore import measure_scores
from engine.recipe import Evaluate, Preference, Recipe, TestSet
from engine.retrieval.figures import figures
from engine.retrieval.recall import Resamples
from engine.rundir import RunDirectory


def evaluate(
    recipe: Recipe, run: RunDirectory, start_ray: Callable[[], None], say: Callable[[str], None]
) -> Evaluation:
    """Measure what is not measured yet, and write the tables of all; see `cluster_images`.

    Raises:
        RecipeError: vectors or VQAScores are missing, or a set has no pairs; what is measured is kept.
        StorageError: a run directory fails.
    """
    settings = recipe.evaluate
    assert settings is not None
    place, work, seed = Evaluation.of(run), Work.of(recipe, run), recipe.run.seed
    work.check()
    for one in work.figures:
        if one.answer.exists():
            continue
        start_ray()
        say(f"evaluating {one.model} on {one.chosen.name}")
        if isinstance(one, ScoresAsked):
            measure_scores(one, settings.draws, seed)
        elif isinstance(one.chosen, Preference):
            made = measure_preference(one.plan, one.pairs, one.model, one.chosen, settings, seed)
            one.answer.write_table(made)
        else:
            _measure(one, one.chosen, settings, seed)
    measure_co_captions(work.co_captions, settings, seed, start_ray, say)
    _tell(place, work)
    return place


def _tell(place: Evaluation, work: Work) -> None:
    """Write the tables of all models and sets, the page and its pictures."""
    tables = [renamed(one.answer.read_table(), one.model, one.chosen) for one in work.figures]
    whole = pa.concat_tables(tables).cast(FIGURES)
    place.figures.write_table(whole)
    text = io.BytesIO()
    pyarrow.csv.write_csv(whole, text)
    place.csv.write_bytes(text.getvalue())
    rows, sets = whole.to_pylist(), {each.chosen.name: each.chosen for each in work.pairs}
    for name in [name for name, chosen in sets.items() if isinstance(chosen, TestSet)]:
        some = {each.model: each.similarities.read_table() for each in work.pairs if each.chosen.name == name}
        place.picture("similarities", name).write_bytes(similarities_picture(name, some))
        if drawn := auprc_picture(name, [row for row in rows if row["set"] == name]):
            place.picture("auprc", name).write_bytes(drawn)
    told = page(whole, list(sets.values()))
    if work.co_captions:
        told += f"\n{tell_co_captions(place, work.co_captions)}"
    place.page.write_bytes(told.encode())
    note_made(place.page, work.told)


def _measure(one: Asked, chosen: TestSet, settings: Evaluate, seed: int) -> None:
    refused = compare_refused(one.plan, one.negatives, chosen.place) if one.negatives else None
    ranked = rank_pairs(one.plan, one.pairs, one.categories, seed, settings.cpus, settings.gpus)
    found, similarities = call(_figures, ranked, refused, one.model, chosen, settings, seed)
    one.similarities.write_table(similarities)
    one.answer.write_table(found)  # the last: it says that both are there


def _figures(
    ranked: Any, refused: Any, model: str, chosen: TestSet, settings: Evaluate, seed: int
) -> tuple[pa.Table, pa.Table]:
    found: Ranked = ranked
    if not found.counted.texts:
        raise RecipeError(
            f"{chosen.place}: no caption ({chosen.captions}) of its {found.counted.images:,} "
            "images has a vector; there is nothing to find"
        )
    categories, others = found.categories.rows(), refused or Others.drawn(found.others)
    resamples = Resamples(found.counted.images, settings.draws, seed)
    made = figures(found.matches, found.ranks, resamples, categories, settings.at)
    made += pair_figures(found.own, found.matches.images, others, resamples, categories)
    similarities = similarity_rows(found.own, others.scores, categories)
    return figure_rows(made, found.counted, model, chosen), similarities
