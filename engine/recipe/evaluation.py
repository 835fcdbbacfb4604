"""The sections `difficulty` and `evaluate`: who divides which pairs, and who is measured on which."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.errors import RecipeError
from engine.recipe.analysis import Reserving
from engine.recipe.embedding import PAPER_MODELS, expanded
from engine.recipe.section import Section
from engine.recipe.texts import Captions, FieldName, source_of

#: Of what stands in tables and names of files.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]


class Pairs(Section):
    """Pairs of a run: its images, and some of their captions."""

    run: str | None = None  # the directory of another run; by default this one
    captions: Captions = "original"

    @property
    def source(self) -> str:
        """Which of embed.texts holds the captions."""
        return source_of(self.captions)

    @property
    def needs(self) -> tuple[str, ...]:
        """Those of embed.texts that are read."""
        return (self.source,)


class Calibration(Pairs):
    """On which pairs each voter's threshold is chosen (METHODS B10)."""

    pairs: int = Field(default=100_000, ge=2)  # images that are drawn, each with one of its captions
    batch: int = Field(default=1024, ge=2)  # in which all other captions are no match
    rule: Literal["f1", "break_even", "product", "youden"] = "f1"


class Difficulty(Reserving):
    """Easy, medium or hard, by how many models accept a caption for its image (METHODS B11)."""

    voters: tuple[str, ...] = PAPER_MODELS  # of embed.encoders; `paper` names these seven
    captions: tuple[Captions, ...] = ("original",)  # each kind is divided by itself
    calibration: Calibration = Calibration()
    rule: Literal["unanimity", "quorum", "tie_breaker"] = "unanimity"
    easy: int | None = Field(default=None, ge=1)  # quorum: accepting voters from which on a pair is easy
    hard: int | None = Field(default=None, ge=0)  # quorum: accepting voters up to which a pair is hard
    draw: int | None = Field(default=None, ge=1)  # voters of a repeat
    repeats: int = Field(default=10, ge=2)  # divisions by drawn voters, which are compared

    @field_validator("voters", mode="before")
    @classmethod
    def _the_papers(cls, given: Any) -> Any:
        return expanded(given)

    @field_validator("voters", "captions")
    @classmethod
    def _each_is_named_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("name at least one, and each once")
        return names

    @model_validator(mode="after")
    def _the_rule_fits(self) -> Difficulty:
        voters, quorum = len(self.voters), (self.easy, self.hard)
        if self.rule == "quorum":
            if self.easy is None or self.hard is None or not self.hard < self.easy <= voters:
                raise ValueError(
                    f"rule: quorum needs `hard` below `easy`, and `easy` at most {voters}, as many as vote"
                )
        elif quorum != (None, None):
            raise ValueError(f"easy and hard belong to rule: quorum, not to {self.rule}")
        if self.rule == "tie_breaker" and (voters < 3 or voters % 2 == 0):
            raise ValueError(f"rule: tie_breaker needs an odd number of voters, three or more, not {voters}")
        self._draws_fit()
        return self

    def _draws_fit(self) -> None:
        if self.draw is None:
            return
        if self.draw > len(self.voters):
            raise ValueError(f"draw: {self.draw} of {len(self.voters)} voters cannot be drawn")
        if self.rule == "tie_breaker" and (self.draw < 3 or self.draw % 2 == 0):
            raise ValueError(f"draw: rule tie_breaker needs an odd number, three or more, not {self.draw}")
        if self.easy is not None and self.draw < self.easy:
            raise ValueError(f"draw: {self.draw} voters never reach easy: {self.easy}")

    @property
    def drawn(self) -> int:
        """Voters of a repeat: as many as were asked for, or as few fewer than all as the rule allows."""
        if self.draw is not None:
            return self.draw
        if self.rule == "tie_breaker":
            return max(3, len(self.voters) - 2)
        return max(1, self.easy or 1, len(self.voters) - 1)


class TestSet(Pairs):
    """Pairs that models are measured on."""

    __test__ = False  # pytest would take it for tests

    name: Name  # of the set in tables and files
    same_texts: Literal["apart", "together"] = "apart"  # whether equal captions are one text
    reference: Literal["imp"] | None = None  # published figures to show beside
    negatives: FieldName | None = None  # captions refused for the image; by default another image's
    categories: FieldName | None = None  # a label for each caption; by default the division's

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Pairs.needs`."""
        return (self.source, *((self.negatives,) if self.negatives else ()))

    @property
    def place(self) -> str:
        """What a message calls it."""
        return f"evaluate.sets, {self.name}"


class Preference(Pairs):
    """Texts with several images each, of which a model should prefer some (METHODS A8, task 3)."""

    name: Name  # as of a set
    preferred: str = Field(min_length=1)  # a glob of the keys or file names of the right images

    @property
    def place(self) -> str:
        """What a message calls it."""
        return f"evaluate.preferences, {self.name}"


class Evaluate(Reserving):
    """Retrieval of each model on each set (METHODS B8)."""

    models: tuple[str, ...]  # of the embed.encoders of each set's run
    sets: tuple[TestSet, ...] = (TestSet(name="original"),)
    preferences: tuple[Preference, ...] = ()
    at: tuple[int, ...] = (1, 5, 10, 20)  # the K of R@K
    draws: int = Field(default=1000, ge=2)  # resamples of the images, for the intervals
    co_captions: tuple[str, ...] = ()  # by what an image's captions are compared: embed.encoders, bertscore:

    @field_validator("models", "co_captions", mode="before")
    @classmethod
    def _the_papers(cls, given: Any) -> Any:
        return expanded(given)

    @field_validator("co_captions")
    @classmethod
    def _each_is_written_well(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from engine.evaluation.bertscore_name import BertScoreName, is_bertscore

        if len(set(names)) < len(names):
            raise ValueError("name each once")
        for name in filter(is_bertscore, names):
            try:
                BertScoreName.parse(name)
            except RecipeError as error:
                raise ValueError(str(error)) from error
        return names

    @field_validator("models")
    @classmethod
    def _models_are_named_once(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if not models or len(set(models)) < len(models):
            raise ValueError("name at least one model, and each once")
        return models

    @field_validator("at")
    @classmethod
    def _places_grow(cls, at: tuple[int, ...]) -> tuple[int, ...]:
        if not at or min(at) < 1 or list(at) != sorted(set(at)):
            raise ValueError("name places from 1 up, each larger than the one before")
        return at

    @model_validator(mode="after")
    def _sets_are_told_apart(self) -> Evaluate:
        names = [each.name for each in self.asked]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                "name at least one of sets and preferences, and give each of both a name of its own"
            )
        return self

    @property
    def asked(self) -> tuple[TestSet | Preference, ...]:
        """What each model is measured on: the sets, then the preferences."""
        return (*self.sets, *self.preferences)
