"""What is trained on, and what the methods add: parts of the section `finetune`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from engine.recipe.section import Section

Level = Literal["synonym", "broader", "context", "concept", "metaphor"]
Kind = Literal["original", "synonym", "broader", "context", "concept", "metaphor"]


class TrainingData(Section):
    """Which captions are trained on, and which images are held out."""

    captions: tuple[Literal["original", "mined"], ...] = ("mined",)
    levels: tuple[Level, ...] = ("synonym", "broader", "context", "concept", "metaphor")  # of mined captions
    elements: int | None = Field(default=None, ge=1)  # of the first so many elements of an image only
    flagged: bool = False  # also mined captions that failed a check
    weights: dict[Kind, float] = Field(default_factory=dict)  # in the loss, by level; 1 where it says nothing
    validation: float = Field(default=0.02, ge=0, lt=1)  # share of the images that is held out
    validation_images: int = Field(default=2000, ge=1)  # at most so many of them are compared

    @field_validator("captions", "levels")
    @classmethod
    def _named_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("name at least one, and each once")
        return names

    @field_validator("weights")
    @classmethod
    def _weights_are_positive(cls, weights: dict[str, float]) -> dict[str, float]:
        if any(weight <= 0 for weight in weights.values()):
            raise ValueError("weights are above 0; leave a level out of data.levels instead")
        return weights


class Adapter(Section):
    """Of the methods lora, pvse, pcme and dive."""

    rank: int = Field(default=8, ge=1)  # of LoRA
    alpha: float = Field(default=8.0, gt=0)  # LoRA's updates are scaled by alpha / rank
    embeddings: int = Field(default=2, ge=1)  # K, of each image and caption: pvse and dive
    image_rate: float = Field(
        default=0.05, ge=0
    )  # of the learning rate: the image tower under pvse, pcme, dive
    text_rate: float = Field(default=0.5, ge=0)  # and the text tower
    samples: int = Field(default=7, ge=1)  # pcme: drawn for each image and caption
