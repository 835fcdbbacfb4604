"""What an evaluation is asked of co-captions: each encoder on each set, and where the answer lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa

from engine.embeddings import check_complete, vector_tables
from engine.errors import RecipeError
from engine.evaluation.asked import of_each_set
from engine.evaluation.bertscore_name import BertScoreName, is_bertscore
from engine.evaluation.caption_texts import CaptionTexts
from engine.evaluation.co_captions import ByTokens, ByVectors, Compared
from engine.evaluation.tables import Evaluation
from engine.recipe import Recipe, TestSet
from engine.rundir import RunDirectory
from engine.storage import Location, digest_settings

#: Raised when the code changes what it finds for the same settings.
CODE_VERSION: Final = 1


@dataclass(frozen=True)
class CoAsked:
    """One encoder on the captions of one set.

    Attributes:
        model: the encoder's name.
        chosen: the set.
        compared: its captions, as the encoder compares them.
        plan: the parts.
        answer: the table of the figures, schema ANSWER; not there before they are known.
    """

    model: str
    chosen: TestSet
    compared: Compared
    plan: pa.Table
    answer: Location

    @property
    def computes(self) -> bool:
        """Whether a model computes, rather than vectors that are there being compared."""
        return isinstance(self.compared, ByTokens)

    def check(self) -> None:
        """Refuse a model that is yet to compute and has no such layer, or no configuration.

        Raises:
            RecipeError: the message names it.
        """
        if isinstance(self.compared, ByTokens) and not self.answer.exists():
            self.compared.model.check()


def co_asked(recipe: Recipe, run: RunDirectory) -> list[CoAsked]:
    """All that `evaluate.co_captions` asks, set by set.

    Raises:
        RecipeError: a set's run makes no such vectors or captions or lacks some, or there is no such model.
        StorageError: there is no such run.
    """
    assert recipe.evaluate is not None
    if not recipe.evaluate.co_captions:
        return []
    return of_each_set(recipe, run, partial(_of_set, recipe, run))


def _of_set(
    recipe: Recipe, run: RunDirectory, chosen: TestSet, own: Recipe, source: RunDirectory
) -> list[CoAsked]:
    """Every encoder on one set, whose captions lie in the run `source` by the recipe `own`."""
    settings, plan, found = recipe.evaluate, source.read_plan(), list[CoAsked]()
    assert settings is not None
    if plan is None or not len(plan):
        raise RecipeError("there are no captions yet; `connote run RECIPE` reads or makes them")
    for name in settings.co_captions:
        if is_bertscore(name):
            texts = CaptionTexts.of(own, source, chosen)
            texts.check_complete(plan)
            compared: Compared = ByTokens(BertScoreName.parse(name), texts)
        else:
            section = f"evaluate.co_captions, set {chosen.name}"
            vectors = vector_tables(own, source, name, chosen.source, section)
            check_complete([vectors], plan)
            mined = CaptionTexts.of(own, source, chosen) if chosen.source == "mined" else None
            compared = ByVectors(vectors, mined)
        decided_by = {
            "job": "co-captions",
            "code": CODE_VERSION,
            "captions": compared.state(plan),
            "draws": settings.draws,
            "seed": recipe.run.seed,
        }
        answer = Evaluation.of(run).directory / f"co-captions-{digest_settings(decided_by)}.parquet"
        found.append(CoAsked(name, chosen, compared, plan, answer))
    return found
