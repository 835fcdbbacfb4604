"""How many actors a pool has, and what each of them reserves."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.recipe.section import Section


class Actors(Section):
    """The size of a pool: a number, `auto`, or both ends of a range.

    `auto` is as many as the cluster carries when the run starts. A range of numbers begins at `min`
    and grows with the queue; `{min: auto, max: 64}` begins with what the cluster carries and
    grows with it.
    """

    min: int | Literal["auto"] = 1
    max: int | Literal["auto"] = 1

    @model_validator(mode="before")
    @classmethod
    def _sizes(cls, value: Any) -> Any:
        if isinstance(value, Actors):
            return value
        sizes = value if isinstance(value, dict) else {"min": value, "max": value}
        for size in sizes.values():
            if size != "auto" and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
                raise ValueError(
                    f"{size!r} is no size of a pool; write a number from 1 up, auto, or a range such as "
                    "{min: 1, max: 8}"
                )
        return sizes

    @model_validator(mode="after")
    def _ordered(self) -> Actors:
        if isinstance(self.min, int) and isinstance(self.max, int) and self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self

    @property
    def auto(self) -> bool:
        """Whether it begins with as many as the cluster carries."""
        return "auto" in (self.min, self.max)

    @property
    def least(self) -> int:
        """How many a cluster must have room for."""
        return 1 if self.min == "auto" else self.min

    @property
    def most(self) -> int | None:
        """How many it may have at its start; None where only the cluster limits it."""
        if not self.auto:
            return self.least
        return None if self.max == "auto" else self.max


class Pool(Section):
    """The size of a pool of actors and what each actor reserves."""

    actors: Actors = Actors()
    share: float | None = Field(default=None, gt=0)  # of the devices, beside other pools that are `auto`
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)  # per actor; a share such as 0.5 puts two on one
    gpu_type: str | None = None  # as Ray names it, such as H100

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"is {gpus:g}; an actor has a share of one GPU (up to 1) or several whole ones")
        return gpus

    @model_validator(mode="after")
    def _settings_have_a_use(self) -> Pool:
        if self.share is not None and not self.actors.auto:
            raise ValueError("`share` belongs to `actors: auto`; take it out, or let the cluster decide")
        if self.gpu_type is not None and not self.gpus:
            raise ValueError(f"`gpu_type` is {self.gpu_type}, and `gpus` is 0; say how many, or take it out")
        return self
