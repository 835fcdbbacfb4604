"""VQAScores as an evaluation asks for them: where a set's scores lie, and where the answer does.

A set whose run has the stage `vqascore` for its captions is measured by it, beside the models of the
section `evaluate`, whose vectors it does not need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.difficulty.tables import Division
from engine.embeddings import state_of
from engine.errors import RecipeError, StorageError
from engine.evaluation.asked import Asked
from engine.evaluation.labels import Labels, told_by
from engine.evaluation.pairs import PairTables
from engine.evaluation.tables import Evaluation
from engine.recipe import Recipe, TestSet
from engine.rundir import RunDirectory
from engine.schema import VQASCORE
from engine.stages import build_stages
from engine.stages.vqascore import VQAScoreStage
from engine.storage import Location, StageTables, digest_settings

#: Raised when the code changes what it writes for the same settings.
CODE_VERSION = 1


@dataclass(frozen=True)
class PartScores:
    """The scored pairs of one part.

    Attributes:
        scores: (m,), 0 to 1.
        samples: (m,), int64, ascending: which sample of the part each is of.
        places: (m,), int64: which of its sample's captions each is of, from 0 on.
        images: (n,), int64: which samples of the part could be scored.
        without: how many could not.
    """

    scores: NDArray[np.float64]
    samples: NDArray[np.int64]
    places: NDArray[np.int64]
    images: NDArray[np.int64]
    without: int


@dataclass(frozen=True)
class ScoreTables:
    """The tables of a stage `vqascore`; `pairs` tells which of the captions are the set's."""

    tables: StageTables
    fingerprint: str
    pairs: PairTables

    def missing(self, plan: pa.Table) -> int:
        """How many of the plan's parts have no table yet."""
        return len(set(plan["part"].to_pylist()) - self.tables.done())

    def read(self, part: str) -> PartScores:
        """The scored pairs of a part; captions without a score are left out.

        Raises:
            StorageError: a table is not there, or is not what its fingerprint says.
        """
        table = self.tables.read(part, VQASCORE, columns=["scores", "error"])
        if table is None:
            raise StorageError(f"{self.tables.table(part).uri}: is not there; run the recipe to its end")
        lists = table["scores"].combine_chunks()
        counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        scores = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        there = np.flatnonzero(np.isfinite(scores))
        samples = np.repeat(np.arange(len(counts)), counts)[there]
        places = there - (np.cumsum(counts) - counts)[samples]
        if self.pairs.mined is not None:
            mine = self.pairs.counted(part, samples, places)
            there, samples, places = there[mine], samples[mine], places[mine]
        good = table["error"].is_null().to_numpy()
        return PartScores(scores[there], samples, places, np.flatnonzero(good), int((~good).sum()))


@dataclass(frozen=True)
class ScoresAsked:
    """The VQAScores of one set; attributes as of `Asked`."""

    model: str
    chosen: TestSet
    tables: ScoreTables
    categories: Division | Labels | None
    plan: pa.Table
    answer: Location


def scores_asked(recipe: Recipe, run: RunDirectory, work: Sequence[Asked]) -> list[ScoresAsked]:
    """The sets of an evaluation that have VQAScores, in order.

    Args:
        recipe: whose section `evaluate` asks.
        run: where its answers lie.
        work: of `asked`.

    Raises:
        RecipeError: some parts have no scores yet; the message names the command that makes them.
    """
    found, first = list[ScoresAsked](), dict[str, Asked]()
    for each in work:
        first.setdefault(each.chosen.name, each)  # any model of a set tells its pairs and its division
    for one in first.values():
        chosen, own = one.chosen, recipe if one.chosen.run is None else one.run.read_recipe()
        if not isinstance(chosen, TestSet) or own.vqascore is None:
            continue
        if chosen.source not in own.vqascore.captions:
            continue
        tables = _tables(own, one)
        if missing := tables.missing(one.plan):
            raise RecipeError(
                f"{chosen.place}: {missing:,} of {len(one.plan):,} parts of "
                f"{one.run.root.uri} have no VQAScores of {chosen.source} captions yet; `connote run "
                "RECIPE` makes them, or take them out of its vqascore.captions"
            )
        model = f"vqascore:{own.vqascore.generator}"
        answer = Evaluation.of(run).directory / f"{_digest(recipe, tables, one)}.parquet"
        found.append(ScoresAsked(model, chosen, tables, one.categories, one.plan, answer))
    return found


def _tables(own: Recipe, one: Asked) -> ScoreTables:
    stage = next(
        stage
        for stage in build_stages(own)
        if isinstance(stage, VQAScoreStage) and stage.of == one.chosen.source
    )
    return ScoreTables(one.run.tables(stage), stage.fingerprint, one.pairs)


def _digest(recipe: Recipe, tables: ScoreTables, one: Asked) -> str:
    """Of all that decides the answer."""
    assert recipe.evaluate is not None
    return digest_settings(
        {
            "job": "vqascore",
            "code": CODE_VERSION,
            "scores": state_of(tables.tables, tables.fingerprint, one.plan),
            "mined": tables.pairs.mined.directory.name if tables.pairs.mined else None,
            "level": tables.pairs.level,
            "parts": one.plan["part"].to_pylist(),
            **told_by(one.categories),
            "draws": recipe.evaluate.draws,
            "seed": recipe.run.seed,
        }
    )
