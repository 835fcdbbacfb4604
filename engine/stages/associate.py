"""associate: salient elements, and for each the words it evokes at five distances."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from engine.generation.prompts import Prompt
from engine.generation.protocol import Generator, Picture, Request, derive_seed
from engine.recipe import Associate
from engine.schema import ASSOCIATE, LEVELS
from engine.stages.asking import Outcome, Question, ask, sampling_of
from engine.stages.elements import Concreteness, Element, elements_schema, read_elements
from engine.stages.stage import Row, Tally
from engine.stages.words import clean, repeats


@dataclass(frozen=True)
class AssociateStage:
    """Finds the elements of each image and their associations (METHODS A2, stages 1 and 2).

    One request an element: its answer stays short, a truncated one costs one element, and all
    requests of an image share the prompt up to the element.
    """

    settings: Associate
    elements_prompt: Prompt
    prompt: Prompt
    concreteness: Concreteness | None
    seed: int
    fingerprint: str

    name = "associate"
    schema: pa.Schema = ASSOCIATE
    needs = ("describe",)
    carries = True
    sees_images = False
    rows_at_once = 0
    look = None

    @property
    def engine(self) -> str:
        """See `Stage.engine`."""
        return f"generators.{self.settings.generator}"

    async def run(
        self, rows: Sequence[Row], pictures: Sequence[Picture | None], generator: Generator, tally: Tally
    ) -> list[dict[str, Any]]:
        """Find elements and associations; see `Stage.run`."""
        chosen = await self._elements(rows, generator, tally)
        asked = [
            (row, element) for row, found in zip(rows, chosen, strict=True) for element in found.value or ()
        ]
        questions = [
            Question(
                partial(self._request, row, element),
                partial(read_associations, word=element.word, count=self.settings.words),
                more_words,
            )
            for row, element in asked
        ]
        outcomes = iter(await ask(generator, questions, self.settings.attempts, tally))
        results = []
        for found in chosen:
            elements = [_item(element, next(outcomes), tally) for element in found.value or ()]
            results.append(_row(elements, found.reason))
        return results

    async def _elements(self, rows: Sequence[Row], generator: Generator, tally: Tally) -> list[Outcome]:
        count = self.settings.elements
        if self.concreteness is not None:
            outcomes = []
            for row in rows:
                words = self.concreteness.choose(row["captions"], count, derive_seed(self.seed, row["id"]))
                reason = "no word of its captions is in the concreteness table"
                outcomes.append(Outcome(words, None if words else reason, 0))
            return outcomes
        read = partial(read_elements, count=count)
        questions = [Question(partial(self._elements_request, row), read) for row in rows]
        return await ask(generator, questions, self.settings.attempts, tally)

    def _elements_request(self, row: Row, attempt: int) -> Request:
        return self.elements_prompt.request(
            {"description": row["description"], "count": str(self.settings.elements)},
            sampling=sampling_of(self.settings.sampling, attempt),
            seed=derive_seed(self.seed, row["id"], "elements", attempt),
            schema=elements_schema(self.settings.elements),
        )

    def _request(self, row: Row, element: Element, attempt: int) -> Request:
        return self.prompt.request(
            {
                "description": row["description"],
                "element": element.word,
                "pos": element.pos or "word",
                "words": str(self.settings.words),
            },
            sampling=sampling_of(self.settings.sampling, attempt),
            seed=derive_seed(self.seed, row["id"], self.name, element.word, attempt),
            schema=associations_schema(self.settings.words),
        )


def associations_schema(count: int) -> dict[str, Any]:
    """The JSON schema of the answer: `count` words at each level."""
    word = {"type": "string", "minLength": 1, "maxLength": 40}
    words = {"type": "array", "items": word, "minItems": count, "maxItems": count}
    return {
        "type": "object",
        "properties": dict.fromkeys(LEVELS, words),
        "required": list(LEVELS),
        "additionalProperties": False,
    }


def read_associations(text: str, word: str, count: int) -> tuple[dict[str, list[str]] | None, str | None]:
    """Parse the answer and keep, per level, the distinct words that are not the original.

    Returns:
        The words by level, and the reason if a level has fewer than `count`: then the words that
        are there are worth keeping if no attempt does better.
    """
    try:
        answer = json.loads(text, strict=False)
        levels = {level: _strings(answer[level]) for level in LEVELS}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, "associations are not the JSON asked for"
    reason = None
    for level, words in levels.items():
        distinct = [item for item in dict.fromkeys(words) if item]
        kept = [item for item in distinct if not repeats(item, word)]
        if len(kept) < count and reason is None:
            repeated = len(kept) < len(distinct)
            reason = "an association repeats the word" if repeated else f"too few at level {level}"
        levels[level] = kept[:count]
    return levels, reason


def more_words(new: Mapping[str, list[str]], old: Mapping[str, list[str]]) -> bool:
    """Whether the new associations of an element are more words than the old ones."""
    return sum(map(len, new.values())) > sum(map(len, old.values()))


def _strings(words: Any) -> list[str]:
    """The cleaned words of a level; a string alone would otherwise be read as its letters."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError("a level is a list of strings")
    return [clean(word) for word in words]


def _item(element: Element, outcome: Outcome, tally: Tally) -> dict[str, Any]:
    if outcome.reason:
        tally.flag(outcome.reason)
    levels = outcome.value or {level: [] for level in LEVELS}
    tally.count("associations", sum(map(len, levels.values())))
    return {"element": element.word, "pos": element.pos, **levels, "flag": outcome.reason}


def _row(elements: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    """A sample fails when it has no element, or when no element has any association."""
    if reason is None and not any(item[level] for item in elements for level in LEVELS):
        reason = elements[0]["flag"] if elements else "no salient element"
    return {"elements": elements or None, "error": reason}
