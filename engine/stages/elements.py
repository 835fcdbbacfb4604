"""Salient elements of an image: asked of a language model, or chosen by concreteness."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import RecipeError, StorageError
from engine.generation.protocol import derive_seed
from engine.schema import PARTS_OF_SPEECH
from engine.stages.words import clean, is_function_word, lemma, tokens
from engine.storage import locate


@dataclass(frozen=True)
class Element:
    """A salient word of an image and its part of speech (None where nothing says which)."""

    word: str
    pos: str | None


def elements_schema(count: int) -> dict[str, Any]:
    """The JSON schema of a language model's answer."""
    item = {
        "type": "object",
        "properties": {
            "word": {"type": "string", "minLength": 1, "maxLength": 40},
            "pos": {"enum": list(PARTS_OF_SPEECH)},
        },
        "required": ["word", "pos"],
        "additionalProperties": False,
    }
    elements = {"type": "array", "items": item, "minItems": 1, "maxItems": count}
    return {
        "type": "object",
        "properties": {"elements": elements},
        "required": ["elements"],
        "additionalProperties": False,
    }


def read_elements(text: str, count: int) -> tuple[list[Element] | None, str | None]:
    """Parse the answer: distinct words, at most `count`; or the reason why it is refused."""
    try:
        items = json.loads(text, strict=False)["elements"]
        found = {clean(item["word"]): item.get("pos") for item in items}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, "elements are not the JSON asked for"
    found.pop("", None)
    elements = [Element(word, pos if pos in PARTS_OF_SPEECH else None) for word, pos in found.items()]
    return (elements[:count], None) if elements else (None, "no salient element")


@dataclass(frozen=True)
class Concreteness:
    """Word ratings from 1 (abstract) to 5 (concrete), as in Brysbaert et al. 2014.

    `pos` holds the part of speech where the table has such a column.
    """

    ratings: Mapping[str, float]
    pos: Mapping[str, str]
    digest: str

    def choose(self, captions: Sequence[str], count: int, seed: int) -> list[Element]:
        """The `count` most concrete content words of one caption, drawn by seed.

        METHODS A2, stage 1: words absent from the table are dropped; each word counts once.
        Unlike the released code, a word that is not in the table as it stands is looked up by
        its dictionary form whatever its part of speech (METHODS A4). Ties keep caption order.
        """
        if not captions:
            return []
        caption = captions[derive_seed(seed, "caption") % len(captions)]
        rated: dict[str, float] = {}
        for word in tokens(caption):
            form = word if word in self.ratings else lemma(word)
            if form in self.ratings and not is_function_word(word) and self._is_content(form):
                rated.setdefault(form, self.ratings[form])
        best = sorted(rated, key=lambda word: -rated[word])[:count]
        return [Element(word, self.pos.get(word)) for word in best]

    def _is_content(self, word: str) -> bool:
        return not self.pos or self.pos.get(word) in PARTS_OF_SPEECH


def load_concreteness(uri: str) -> Concreteness:
    """Read a CSV or TSV with columns `Word`, `Conc.M` and, if there is one, `Dom_Pos`.

    Raises:
        RecipeError: the file is missing, or lacks a column, or a line lacks its word or another
            cell, or a rating is no number.
    """
    from engine.storage import digest_of

    try:
        # Spreadsheets write a byte order mark, which would be part of the first column's name.
        text = locate(uri).read_text().removeprefix("\ufeff")
    except StorageError as error:
        raise RecipeError(f"associate.concreteness: {error}") from error
    header = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in header else ",")
    missing = {"Word", "Conc.M"} - set(rows.fieldnames or ())
    if missing:
        raise RecipeError(
            f"associate.concreteness: {uri} has no column {sorted(missing)[0]}; it needs Word and Conc.M "
            f"(found {', '.join(rows.fieldnames or ()) or 'nothing'})"
        )
    ratings: dict[str, float] = {}
    pos: dict[str, str] = {}
    try:
        for row in rows:
            word, ratings[word] = _read_rating(row)
            if row.get("Dom_Pos"):
                pos[word] = row["Dom_Pos"].strip().lower()
    except csv.Error as error:
        raise RecipeError(f"associate.concreteness: {uri} after line {rows.line_num}: {error}") from error
    except ValueError as error:
        raise RecipeError(f"associate.concreteness: {uri} line {rows.line_num}: {error}") from error
    return Concreteness(ratings, pos, digest_of(text))


def _read_rating(row: Mapping[str, str | None]) -> tuple[str, float]:
    """A line's word and rating; a ValueError says what is wrong with the line."""
    missing = [column for column, cell in row.items() if cell is None]
    if missing:
        raise ValueError(f"the cell of column {missing[0]} is missing")
    word = clean(row["Word"] or "")
    if not word:
        raise ValueError("Word is empty")
    try:
        rating = float(row["Conc.M"] or "")
    except ValueError:
        rating = math.nan
    if not math.isfinite(rating):
        raise ValueError(f"Conc.M is not a number ({row['Conc.M']!r})")
    return word, rating
