"""The VQAScores of a set on Ray: tasks read the scores of its parts, one averages them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray

from engine.difficulty.tables import Division
from engine.errors import RecipeError
from engine.evaluation.categories import Categories
from engine.evaluation.labels import CategoryReader, Labels
from engine.evaluation.score_figures import joined, score_figures
from engine.evaluation.tables import Counted, figure_rows
from engine.evaluation.vqascore import PartScores, ScoresAsked, ScoreTables
from engine.flow.spread import call, each, slices
from engine.recipe import TestSet
from engine.retrieval.recall import Resamples


def measure_scores(one: ScoresAsked, draws: int, seed: int) -> None:
    """Average the scores of a set and write its answer.

    Args:
        one: the set.
        draws: resamples of the images, for the intervals.
        seed: of the draws.

    Raises:
        RecipeError: no caption of the set has a score.
        StorageError: a table fails.
    """
    pieces = each(slices(one.plan.to_pylist()), _read, one.tables, one.categories)
    one.answer.write_table(call(_figures, pieces, one.model, one.chosen, draws, seed))


def _read(
    rows: Sequence[Mapping[str, Any]], tables: ScoreTables, source: Division | Labels | None
) -> list[tuple[PartScores, Categories]]:
    """The scored pairs of some parts, each part with its pairs' categories."""
    found, categories = [], CategoryReader(source)
    for row in rows:
        scored = tables.read(row["part"])
        found.append((scored, categories.read(row, scored.samples, scored.places)))
    return found


def _figures(pieces: Sequence[Any], model: str, chosen: TestSet, draws: int, seed: int) -> pa.Table:
    found = joined([part for piece in ray.get(list(pieces)) for part in piece])
    if not len(found.scores):
        raise RecipeError(
            f"evaluate.sets, {chosen.name}: no caption ({chosen.captions}) of its {found.images:,} images "
            "has a VQAScore; run the recipe with --retry-failed, or take them out of vqascore.captions"
        )
    resamples = Resamples(found.images, draws, seed)
    made = score_figures(found.scores, found.owners, resamples, found.categories.rows())
    counted = Counted(found.images, len(found.scores), found.without)
    return figure_rows(made, counted, model, chosen)
