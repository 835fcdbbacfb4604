"""The section `generators`: who answers, and how many of them there are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from engine.recipe.section import Section


class Actors(Section):
    """The size of a pool: fixed unless `max` is above `min`, then it scales with the queue."""

    min: int = Field(default=1, ge=1)
    max: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"min": value, "max": value} if isinstance(value, int) else value

    @model_validator(mode="after")
    def _ordered(self) -> Actors:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class Pool(Section):
    """The size of a pool of actors and what each actor reserves."""

    actors: Actors = Actors()
    cpus: float = Field(default=1, ge=0)


class Answering(Pool):
    """What every generator has."""

    requests_in_flight: int = Field(default=256, ge=1)  # per actor


class Vllm(Answering):
    """A vLLM engine in each actor. `model` is a directory, a hub name, or `terrarium`."""

    backend: Literal["vllm"]
    model: str
    revision: str | None = None  # of a hub name: pin it, else a new upstream commit goes unnoticed
    gpus: float = Field(default=0, ge=0)  # above 1: tensor parallel over that many
    max_model_len: int | None = Field(default=None, ge=1)
    dtype: str = "auto"
    trust_remote_code: bool = False
    engine: dict[str, Any] = Field(default_factory=dict)  # further AsyncEngineArgs


class OpenAI(Answering):
    """A server that speaks the OpenAI chat protocol."""

    backend: Literal["openai"]
    model: str
    base_url: str
    api_key_env: str = "OPENAI_API_KEY"  # the variable that holds the key, never the key
    attempts: int = Field(default=6, ge=1)
    timeout_s: float = Field(default=300, gt=0)
    requests_in_flight: int = Field(default=32, ge=1)


class Scripted(Answering):
    """Answers computed from the request: for tests and benchmarks of the engine itself."""

    backend: Literal["scripted"]
    delay_s: float = Field(default=0, ge=0)  # waits as a device would
    script: str = "engine.generation.scripted:answer"  # module:function


Generator = Annotated[Vllm | OpenAI | Scripted, Field(discriminator="backend")]
