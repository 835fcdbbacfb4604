"""What a stage asks of a generator, and what it gets back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from engine.generation.meter import Meter
from engine.recipe import Sampling


@dataclass(frozen=True)
class Picture:
    """A decoded image and the name under which an engine may cache what it computes from it."""

    id: str
    image: Image.Image = field(compare=False)


@dataclass(frozen=True)
class Request:
    """One generation: a system text, then a user message of texts and pictures in order.

    `task` and `values` say which prompt was filled with what. Engines ignore them; the scripted
    generator answers from them.
    """

    task: str
    content: tuple[str | Picture, ...]
    sampling: Sampling
    seed: int
    system: str | None = None
    schema: Mapping[str, Any] | None = None  # a JSON schema the answer must follow
    values: Mapping[str, str] = field(default_factory=dict)
    #: A word: asks for the probability that the answer begins with it; see `engine.generation.first_word`.
    probability_of: str | None = None

    @property
    def pictures(self) -> list[Picture]:
        """The pictures of the message, in order."""
        return [piece for piece in self.content if isinstance(piece, Picture)]


@dataclass(frozen=True)
class Response:
    """The answer to one request; `error` is the reason why there is none.

    `probability`, 0 to 1, is there if the request asks for that of a word.
    """

    text: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None
    probability: float | None = None


class Generator(Protocol):
    """Answers requests. One lives in each pool actor and serves all the stages of its pool."""

    meter: Meter

    async def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request, in order. A request that cannot be answered gets an `error`.

        Raises:
            EngineDied: no further request can be answered by this generator.
        """
        ...

    async def close(self) -> None:
        """Free what the generator holds."""
        ...


def derive_seed(run_seed: int, *names: str | int) -> int:
    """A seed that depends on the run's seed and these names alone, in [0, 2^31)."""
    text = "\x00".join(map(str, (run_seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little") >> 1
