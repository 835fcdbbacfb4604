"""The section `embed`: which encoders give images and captions their vectors."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, field_validator

from engine.errors import RecipeError
from engine.recipe.pool import Pool
from engine.recipe.texts import Text

#: The seven of IMP (METHODS B11); of the last one's two sets of weights the paper does not say which.
PAPER_MODELS: Final = (
    "open_clip:RN50-quickgelu/openai",
    "open_clip:RN101-quickgelu/openai",
    "open_clip:ViT-B-32-quickgelu/openai",
    "open_clip:ViT-B-16-quickgelu/openai",
    "open_clip:ViT-L-14-quickgelu/openai",
    "open_clip:ViT-L-14-336-quickgelu/openai",
    "open_clip:ViT-g-14/laion2b_s34b_b88k",
)


def expanded(names: Any) -> Any:
    """Names of encoders, among which `paper` stands for the seven; anything else is left to the checks."""
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list | tuple):
        return names
    each = [more for name in listed for more in (PAPER_MODELS if name == "paper" else (name,))]
    return tuple(each) if "paper" in listed else names


class Embed(Pool):
    """Vectors of every image, and of its captions, by each encoder that can make them.

    All encoders of a recipe live in each actor of one pool, so that an image is decoded once.
    """

    encoders: tuple[str, ...]
    texts: tuple[Text, ...] = ()  # by those encoders that read texts
    dtype: Literal["float16", "float32"] = "float16"  # of the vectors in the tables
    compute: Literal["float32", "float16", "bfloat16"] = "float32"  # of the models
    decode: Literal["reduced", "full"] = "reduced"  # reduced: no larger than an encoder needs
    batch: int = Field(default=64, ge=1)  # images or captions of one forward pass
    cpus: float = Field(default=2, ge=0)

    @field_validator("encoders", mode="before")
    @classmethod
    def _the_papers(cls, given: Any) -> Any:
        return expanded(given)

    @field_validator("encoders")
    @classmethod
    def _names_are_written_well(cls, encoders: tuple[str, ...]) -> tuple[str, ...]:
        from engine.encoders.names import EncoderName

        if not encoders or len(set(encoders)) < len(encoders):
            twice = ", ".join(sorted({name for name in encoders if encoders.count(name) > 1}))
            said = f" ({twice} is there twice; `paper` stands for seven)" if twice else ""
            raise ValueError(f"name at least one encoder, and each once{said}")
        for name in encoders:
            try:
                EncoderName.parse(name)
            except RecipeError as error:
                raise ValueError(str(error)) from error
        return encoders

    @field_validator("texts")
    @classmethod
    def _texts_are_named_once(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(texts)) < len(texts):
            raise ValueError("name each of original, mined, field:NAME once")
        return texts
