"""vqascore: how probable a vision-language model finds it that an image shows what a caption says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.decoding import Look
from engine.generation.first_word import ONE_TOKEN
from engine.generation.prompts import Prompt
from engine.generation.protocol import Generator, Picture, Request, Response, derive_seed
from engine.recipe import VQAScore
from engine.recipe.stages import Texts
from engine.schema import VQASCORE, storable
from engine.stages.embed import texts_of
from engine.stages.stage import Row, Tally

EMPTY = "empty caption"
#: Why a caption has no score although the generator answered.
NO_PROBABILITY = "the generator gave no probability"


@dataclass(frozen=True)
class VQAScoreStage:
    """Asks of each image and each of its captions whether they match (Lin et al. 2024; METHODS B9).

    The score is the probability that the answer begins with "Yes"; no answer is drawn, so that a score
    depends on no seed. One stage for each kind of captions: mined anew, they leave the original ones'
    scores as they are. All questions of an image share the prompt up to the caption.

    Attributes:
        settings: the recipe's section.
        prompt: with the placeholder `$caption`.
        of: which captions: those the images came with, or those that were mined.
        look: at which size images are shown.
        fingerprint: see `Stage`.
    """

    settings: VQAScore
    prompt: Prompt
    of: Texts
    look: Look
    fingerprint: str

    schema: pa.Schema = VQASCORE
    carries = False
    sees_images = True
    rows_at_once = 0

    @property
    def name(self) -> str:
        """See `Stage.name`."""
        return f"vqascore-{self.of}"

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Stage.needs`."""
        return ("caption",) if self.of == "mined" else ()

    @property
    def engine(self) -> str:
        """See `Stage.engine`."""
        return f"generators.{self.settings.generator}"

    async def run(
        self, rows: Sequence[Row], pictures: Sequence[Picture | None], generator: Generator, tally: Tally
    ) -> list[dict[str, Any]]:
        """Score the captions of each image; see `Stage.run`."""
        captions = [texts_of(row, self.of) for row in rows]
        requests = [
            self._request(row["id"], picture, place, text)
            for row, picture, texts in zip(rows, pictures, captions, strict=True)
            for place, text in enumerate(texts)
            if text.strip()
        ]
        answers = iter(await generator.generate(requests) if requests else [])
        tally.requests += len(requests)
        results = []
        for texts in captions:
            told = [_score(next(answers), tally) if text.strip() else (None, EMPTY) for text in texts]
            for _, reason in told:
                if reason is not None:
                    tally.flag(reason)
            tally.count("scores", sum(score is not None for score, _ in told))
            results.append(_row(told))
        return results

    def _request(self, sample: str, picture: Picture | None, place: int, caption: str) -> Request:
        return self.prompt.request(
            {"caption": caption},
            sampling=ONE_TOKEN,
            seed=derive_seed(0, sample, self.name, place),
            picture=picture,
            probability_of=self.settings.answer,
        )


def _score(answer: Response, tally: Tally) -> tuple[float | None, str | None]:
    """The score that an answer tells, and why it tells none."""
    tally.output_tokens += answer.output_tokens
    if answer.error is not None:
        return None, storable(answer.error)
    if answer.probability is None or not math.isfinite(answer.probability):
        return None, NO_PROBABILITY
    return answer.probability, None


def _row(told: Sequence[tuple[float | None, str | None]]) -> dict[str, Any]:
    """A sample fails when the generator failed on every caption that says something."""
    scores = [score for score, _ in told]
    failures = Counter(reason for _, reason in told if reason not in (None, EMPTY))
    if failures and all(score is None for score in scores):
        # The most common reason; the first one among equals.
        return {"scores": None, "error": failures.most_common(1)[0][0]}
    return {"scores": scores, "error": None}
