"""The evaluation job on Ray: each model on each set, what was measured before left as it is."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv

from engine.analyses import note_made
from engine.errors import RecipeError
from engine.evaluation.asked import Asked, asked, told_of
from engine.evaluation.co_asked import CoAsked, co_asked
from engine.evaluation.negatives import Others, pair_figures
from engine.evaluation.page import page
from engine.evaluation.pictures import auprc_picture, similarities_picture
from engine.evaluation.similarities import similarity_rows
from engine.evaluation.tables import FIGURES, Evaluation, figure_rows, renamed
from engine.evaluation.vqascore import ScoresAsked, scores_asked
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
    place, tables = Evaluation.of(run), list[pa.Table]()
    # All are looked at before the first is measured: a mistake in the last one costs no hours.
    work = asked(recipe, run)
    scores, of_captions = scores_asked(recipe, run, work), co_asked(recipe, run)
    for each in work:
        each.check_divided()
    for one in of_captions:
        one.check()
    for each in work:
        if not each.answer.exists():
            start_ray()
            say(f"evaluating {each.model} on {each.chosen.name}")
            _measure(each, settings, recipe.run.seed)
        tables.append(renamed(each.answer.read_table(), each.model, each.chosen))
    for score in scores:
        if not score.answer.exists():
            start_ray()
            say(f"evaluating {score.model} on {score.chosen.name}")
            measure_scores(score, settings.draws, recipe.run.seed)
        tables.append(renamed(score.answer.read_table(), score.model, score.chosen))
    measure_co_captions(of_captions, settings, recipe.run.seed, start_ray, say)
    _tell(place, pa.concat_tables(tables).cast(FIGURES), work, scores, of_captions)
    return place


def _tell(
    place: Evaluation,
    whole: pa.Table,
    work: Sequence[Asked],
    scores: Sequence[ScoresAsked],
    of_captions: Sequence[CoAsked],
) -> None:
    """Write the tables of all models and sets, the page and its pictures."""
    place.figures.write_table(whole)
    text = io.BytesIO()
    pyarrow.csv.write_csv(whole, text)
    place.csv.write_bytes(text.getvalue())
    rows, sets = whole.to_pylist(), {each.chosen.name: each.chosen for each in work}
    for name in [name for name, chosen in sets.items() if isinstance(chosen, TestSet)]:
        some = {each.model: each.similarities.read_table() for each in work if each.chosen.name == name}
        place.picture("similarities", name).write_bytes(similarities_picture(name, some))
        if drawn := auprc_picture(name, [row for row in rows if row["set"] == name]):
            place.picture("auprc", name).write_bytes(drawn)
    told = page(whole, list(sets.values()))
    if of_captions:
        told += f"\n{tell_co_captions(place, of_captions)}"
    place.page.write_bytes(told.encode())
    note_made(place.page, told_of([*work, *scores, *of_captions]))


def _measure(one: Asked, settings: Evaluate, seed: int) -> None:
    if isinstance(one.chosen, Preference):
        made = measure_preference(one.plan, one.pairs, one.model, one.chosen, settings, seed)
        one.answer.write_table(made)
        return
    refused = compare_refused(one.plan, one.negatives, one.chosen.place) if one.negatives else None
    ranked = rank_pairs(one.plan, one.pairs, one.categories, seed, settings.cpus, settings.gpus)
    found, similarities = call(_figures, ranked, refused, one.model, one.chosen, settings, seed)
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
