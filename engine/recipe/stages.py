"""The sections of the stages: `describe`, `associate`, `caption`, `vqascore`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.recipe.section import Section
from engine.schema import LEVELS

#: Captions that came with the images, or those that were mined.
Texts = Literal["original", "mined"]


class Sampling(Section):
    """How tokens are drawn.

    At temperature 0 every request is asked greedily once; where its answer fails a check it is
    asked again at `engine.stages.asking.RETRY_TEMPERATURE`, because the same greedy request would
    have the same answer.
    """

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=0.9, gt=0, le=1)
    max_tokens: int = Field(default=150, ge=1)


class Stage(Section):
    """What every generating stage has."""

    generator: str
    sampling: Sampling = Sampling()
    attempts: int = Field(default=3, ge=1)


class Describe(Stage):
    """One dense description per image."""

    prompt: str | None = None  # a file instead of the package's prompt; so below
    sampling: Sampling = Sampling(max_tokens=300)


class Associate(Stage):
    """Salient elements of an image, and the words each evokes at five distances."""

    prompt: str | None = None
    elements_prompt: str | None = None
    elements: int = Field(default=5, ge=1)  # at most so many (METHODS A2: top 5)
    words: int = Field(default=3, ge=1)  # for each element and level (METHODS A2: three)
    select: Literal["description", "concreteness"] = "description"
    concreteness: str | None = None  # the table for select: concreteness (csv or tsv)
    sampling: Sampling = Sampling(max_tokens=1000)

    @model_validator(mode="after")
    def _table_is_given(self) -> Associate:
        if (self.select == "concreteness") != (self.concreteness is not None):
            raise ValueError("`concreteness` (a table of ratings) and `select: concreteness` go together")
        return self


class Caption(Stage):
    """Creative captions, one for each element, level and drawn association."""

    prompt: str | None = None
    draw: int | Literal["all"] = 1  # associations drawn for each element and level
    levels: tuple[str, ...] = LEVELS
    max_words: int = Field(default=9, ge=1)  # "fewer than 10 words"

    @field_validator("draw")
    @classmethod
    def _draws_something(cls, draw: int | Literal["all"]) -> int | Literal["all"]:
        if draw != "all" and draw < 1:
            raise ValueError(f"{draw} draws no association; write 1 or more, or all")
        return draw

    @field_validator("levels")
    @classmethod
    def _levels_exist(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        for level in levels:
            if level not in LEVELS:
                raise ValueError(f"'{level}' is not one of {', '.join(LEVELS)}")
        if not levels or len(set(levels)) < len(levels):
            raise ValueError(f"name at least one level, and each once: {', '.join(LEVELS)}")
        return levels


class VQAScore(Section):
    """The probability that a vision-language model answers yes when it is asked about image and caption."""

    generator: str
    prompt: str | None = None
    captions: tuple[Texts, ...] = ("original",)  # a stage for each kind
    answer: str = "Yes"  # the word whose probability counts, in whatever case

    @field_validator("captions")
    @classmethod
    def _captions_are_named_once(cls, captions: tuple[Texts, ...]) -> tuple[Texts, ...]:
        if not captions or len(set(captions)) < len(captions):
            raise ValueError("name original, mined or both, and each once")
        return captions

    @field_validator("answer", mode="before")
    @classmethod
    def _yes_is_a_word(cls, answer: Any) -> Any:
        # YAML reads a bare Yes or No as true or false.
        return ("No", "Yes")[answer] if isinstance(answer, bool) else answer

    @field_validator("answer")
    @classmethod
    def _answer_is_a_word(cls, answer: str) -> str:
        if len(answer.split()) != 1:
            raise ValueError(f"'{answer}' is not one word")
        return answer.strip()
