"""caption: creative captions, grounded in the image, each containing its association."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from engine.decoding import Look
from engine.generation.prompts import Prompt
from engine.generation.protocol import Generator, Picture, Request, derive_seed
from engine.recipe import Caption
from engine.schema import CAPTION
from engine.stages.asking import Question, ask, sampling_of
from engine.stages.stage import Row, Tally
from engine.stages.words import contains, tokens

_BULLET = re.compile(r"^(?:[-*•]|\d+[.)])\s+")


@dataclass(frozen=True)
class Wanted:
    """One caption to be written: the draw of METHODS A2, stage 3."""

    element: str
    others: str
    level: str
    association: str


@dataclass(frozen=True)
class CaptionStage:
    """Writes a caption for every element, level and drawn association (METHODS A2, stages 3, 4)."""

    settings: Caption
    prompt: Prompt
    seed: int
    look: Look
    fingerprint: str

    name = "caption"
    schema: pa.Schema = CAPTION
    needs = ("associate",)
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
        """Write the captions of each image; see `Stage.run`."""
        drawn = [self.draw(row) for row in rows]
        questions = []
        for row, picture, wanted in zip(rows, pictures, drawn, strict=True):
            checks = CaptionChecks(self.settings.max_words)
            questions += [
                Question(
                    partial(self._request, row["id"], picture, one), partial(checks.read, one.association)
                )
                for one in wanted
            ]
        outcomes = iter(await ask(generator, questions, self.settings.attempts, tally))
        results = []
        for wanted in drawn:
            captions = []
            for one, outcome in zip(wanted, outcomes, strict=False):
                if outcome.reason:
                    tally.flag(outcome.reason)
                captions.append(
                    {
                        "element": one.element,
                        "level": one.level,
                        "association": one.association,
                        "caption": outcome.value,
                        "attempts": outcome.attempts,
                        "flag": outcome.reason,
                    }
                )
            tally.count("captions", sum(item["caption"] is not None for item in captions))
            results.append(_row(captions))
        return results

    def draw(self, row: Row) -> list[Wanted]:
        """The captions to write for a sample: by element, then level, then association.

        Which of an element's words are drawn depends on the seed, the sample, the element and the
        level alone, so one more element or level changes no other draw.
        """
        elements = [item for item in row["elements"] or () if item["element"]]
        wanted = []
        for item in elements:
            others = ", ".join(e["element"] for e in elements if e is not item)
            for level in self.settings.levels:
                for association in self._pick(row["id"], item["element"], level, item[level] or []):
                    wanted.append(Wanted(item["element"], others, level, association))
        return wanted

    def _pick(self, sample: str, element: str, level: str, words: list[str]) -> list[str]:
        if self.settings.draw == "all" or self.settings.draw >= len(words):
            return words
        lots = [derive_seed(self.seed, sample, "draw", element, level, index) for index in range(len(words))]
        order = sorted(range(len(words)), key=lots.__getitem__)
        return [words[index] for index in order[: self.settings.draw]]

    def _request(self, sample: str, picture: Picture | None, one: Wanted, attempt: int) -> Request:
        seed = derive_seed(self.seed, sample, self.name, one.element, one.level, one.association, attempt)
        values = {
            "element": one.element,
            "others": one.others,
            "level": one.level,
            "association": one.association,
            "max_words": str(self.settings.max_words),
        }
        sampling = sampling_of(self.settings.sampling, attempt)
        return self.prompt.request(values, sampling=sampling, seed=seed, picture=picture)


@dataclass
class CaptionChecks:
    """The checks of one image's captions: length, containment, and no repeat among them."""

    max_words: int
    accepted: set[tuple[str, ...]] = field(default_factory=set)

    def read(self, association: str, text: str) -> tuple[str | None, str | None]:
        """The caption in an answer, and the first check that it fails."""
        caption = first_line(text)
        words = tuple(tokens(caption))
        if not words:
            return None, "empty caption"
        if len(caption.split()) > self.max_words:
            return caption, f"longer than {self.max_words} words"
        if not contains(caption, association):
            return caption, "does not contain its association"
        if words in self.accepted:
            return caption, "repeats another caption"
        self.accepted.add(words)
        return caption, None


def first_line(text: str) -> str:
    """The first line that says something, without quotes around it or a bullet before it."""
    for line in text.splitlines():
        stripped = _BULLET.sub("", " ".join(line.split()))
        for left, right in (('"', '"'), ("“", "”"), ("'", "'"), ("**", "**")):
            if stripped.startswith(left) and stripped.endswith(right) and len(stripped) > 2 * len(left):
                stripped = stripped[len(left) : -len(right)].strip()
        if stripped:
            return stripped
    return ""


def _row(captions: list[dict[str, Any]]) -> dict[str, Any]:
    """A sample fails when it has nothing to write of, or when no caption at all was written."""
    if not captions:
        return {"creative_captions": None, "error": "no association to write a caption for"}
    if all(item["caption"] is None for item in captions):
        # The most common reason; the first one among equals.
        reason = Counter(item["flag"] for item in captions).most_common(1)[0][0]
        return {"creative_captions": None, "error": reason}
    return {"creative_captions": captions, "error": None}
