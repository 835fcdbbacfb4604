"""The VQAScores of a set on Ray: tasks read the scores of its parts, one averages them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from engine.difficulty.tables import Division
from engine.difficulty.voting import CATEGORIES
from engine.errors import RecipeError
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
    pieces = each(slices(one.plan.to_pylist()), _read, one.tables, one.division)
    one.answer.write_table(call(_figures, pieces, one.model, one.chosen, draws, seed))


def _read(
    rows: Sequence[Mapping[str, Any]], tables: ScoreTables, division: Division | None
) -> list[tuple[PartScores, NDArray[np.int8]]]:
    """The scored pairs of some parts, each part with its pairs' categories."""
    found = []
    for row in rows:
        scored = tables.read(row["part"])
        codes = np.full(len(scored.scores), -1, np.int8)
        if division is not None:
            codes = division.codes_of(row["part"], scored.samples, scored.places)
        found.append((scored, codes))
    return found


def _figures(pieces: Sequence[Any], model: str, chosen: TestSet, draws: int, seed: int) -> pa.Table:
    found = joined([part for piece in ray.get(list(pieces)) for part in piece])
    if not len(found.scores):
        raise RecipeError(
            f"evaluate.sets, {chosen.name}: no caption ({chosen.captions}) of its {found.images:,} images "
            "has a VQAScore; run the recipe with --retry-failed, or take them out of vqascore.captions"
        )
    categories = {}
    if (found.categories >= 0).any():
        categories = {name: found.categories == code for code, name in enumerate(CATEGORIES)}
    resamples = Resamples(found.images, draws, seed)
    made = score_figures(found.scores, found.owners, resamples, categories)
    counted = Counted(found.images, len(found.scores), found.without)
    return figure_rows(made, counted, model, chosen)
