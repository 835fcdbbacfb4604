"""The section `generators`: who answers, and how many of them there are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from engine.recipe.pool import Pool


class Answering(Pool):
    """What every generator has."""

    requests_in_flight: int = Field(default=256, ge=1)  # per actor


class Vllm(Answering):
    """A vLLM engine in each actor. `model` is a directory, a hub name, or `terrarium`."""

    backend: Literal["vllm"]
    model: str
    revision: str | None = None  # of a hub name: pin it, else a new upstream commit goes unnoticed
    # Of `gpus` above 1 the model is spread over that many: tensor parallel, or as `engine` says.
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

    @model_validator(mode="after")
    def _the_server_has_them(self) -> OpenAI:
        if self.gpus:
            raise ValueError("`gpus` are the server's own; its clients compute nothing: take it out")
        return self


class Scripted(Answering):
    """Answers computed from the request: for tests and benchmarks of the engine itself."""

    backend: Literal["scripted"]
    delay_s: float = Field(default=0, ge=0)  # waits as a device would
    script: str = "engine.generation.scripted:answer"  # module:function


Generator = Annotated[Vllm | OpenAI | Scripted, Field(discriminator="backend")]
