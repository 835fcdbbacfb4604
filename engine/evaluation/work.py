"""All that the section `evaluate` asks, of pairs, of VQAScores and of co-captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.evaluation.asked import Answered, Asked, asked, told_of
from engine.evaluation.co_asked import CoAsked, co_asked
from engine.evaluation.vqascore import ScoresAsked, scores_asked
from engine.recipe import Recipe
from engine.rundir import RunDirectory


@dataclass(frozen=True)
class Work:
    """What is asked, known and not known yet.

    Attributes:
        pairs: each model on each set and each preference.
        scores: each vision-language model on each set that it has scored.
        co_captions: each encoder on the captions of each set.
    """

    pairs: Sequence[Asked]
    scores: Sequence[ScoresAsked]
    co_captions: Sequence[CoAsked]

    @classmethod
    def of(cls, recipe: Recipe, run: RunDirectory) -> Work:
        """Of a recipe.

        Raises:
            RecipeError: a set's run makes no such vectors, scores or captions, or lacks some.
            StorageError: there is no such run.
        """
        pairs = asked(recipe, run)
        return cls(pairs, scores_asked(recipe, run, pairs), co_asked(recipe, run))

    @property
    def figures(self) -> list[Asked | ScoresAsked]:
        """Those whose answers have schema FIGURES."""
        return [*self.pairs, *self.scores]

    @property
    def answers(self) -> list[Answered]:
        """All of them."""
        return [*self.figures, *self.co_captions]

    @property
    def told(self) -> str:
        """A digest of what the page tells when all is known."""
        return told_of(self.answers)

    def check(self) -> None:
        """Refuse what cannot be measured: a mistake in the last of them is to cost no hours.

        Raises:
            RecipeError: the message names the set or the model.
        """
        for pairs in self.pairs:
            pairs.check_divided()
        for captions in self.co_captions:
            captions.check()
