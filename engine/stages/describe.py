"""describe: one dense description per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from engine.decoding import Look
from engine.generation.prompts import Prompt
from engine.generation.protocol import Generator, Picture, Request, derive_seed
from engine.recipe import Describe
from engine.schema import DESCRIBE
from engine.stages.asking import Question, ask, sampling_of
from engine.stages.stage import Row, Tally


@dataclass(frozen=True)
class DescribeStage:
    """Shows each image to the generator and keeps what it says of it (METHODS A2, stage 0)."""

    settings: Describe
    prompt: Prompt
    seed: int
    look: Look
    fingerprint: str

    name = "describe"
    schema: pa.Schema = DESCRIBE
    needs = ()
    carries = True
    sees_images = True
    rows_at_once = 0

    @property
    def engine(self) -> str:
        """See `Stage.engine`."""
        return f"generators.{self.settings.generator}"

    async def run(
        self, rows: Sequence[Row], pictures: Sequence[Picture | None], generator: Generator, tally: Tally
    ) -> list[dict[str, Any]]:
        """Describe each image; see `Stage.run`."""
        questions = [
            Question(partial(self._request, row["id"], picture), read_description)
            for row, picture in zip(rows, pictures, strict=True)
        ]
        outcomes = await ask(generator, questions, self.settings.attempts, tally)
        tally.count("descriptions", sum(outcome.reason is None for outcome in outcomes))
        return [{"description": o.value, "error": o.reason} for o in outcomes]

    def _request(self, sample: str, picture: Picture | None, attempt: int) -> Request:
        seed = derive_seed(self.seed, sample, self.name, attempt)
        sampling = sampling_of(self.settings.sampling, attempt)
        return self.prompt.request({}, sampling=sampling, seed=seed, picture=picture)


def read_description(text: str) -> tuple[str | None, str | None]:
    """The description with white space folded; an empty one is refused."""
    folded = " ".join(text.split())
    return (folded, None) if folded else (None, "empty description")
