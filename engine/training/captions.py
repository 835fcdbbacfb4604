"""Which captions of a run's samples are trained on, and what is left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.export.mined import MinedSample
from engine.recipe.finetune_parts import TrainingData
from engine.schema import LEVELS

#: The level of captions that came with the images.
ORIGINAL = -1

#: One row per caption: of which sample (`row` of the catalog table `catalog`), of which level (0 to
#: 4 as in LEVELS, or ORIGINAL), and its weight in the loss.
PAIRS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("catalog", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        # Of 5 million captions there may be more bytes than 32 bits can count.
        pa.field("caption", pa.large_string(), nullable=False),
        pa.field("level", pa.int8(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
    ]
)

#: Why a text is left out that its image has already.
AGAIN = "the same caption of an image again"

_STAGES = ("describe", "associate", "caption")

#: A caption's text and level, and why it is left out, or None.
_Candidate = tuple[str | None, int, str | None]


@dataclass(frozen=True)
class Collected:
    """The captions of some samples.

    Attributes:
        table: schema PAIRS, in the samples' order.
        left_out: how many captions, or whole samples, were left out, by reason.
    """

    table: pa.Table
    left_out: Counter[str]


def collect(parts: Iterable[tuple[str, int, Sequence[MinedSample]]], data: TrainingData) -> Collected:
    """The captions of several parts, each given as its catalog table's name, first row and samples."""
    table, left_out = [PAIRS.empty_table()], Counter[str]()
    for catalog, start, samples in parts:
        found = pairs_of(samples, data, catalog, start)
        table.append(found.table)
        left_out += found.left_out
    return Collected(pa.concat_tables(table), left_out)


def pairs_of(samples: Sequence[MinedSample], data: TrainingData, catalog: str, start: int) -> Collected:
    """The captions of consecutive samples that the settings choose.

    Of a text that an image has several times the first is taken; those that came with the image
    are before those that were mined.

    Args:
        samples: rows of a catalog table, with what was mined from them.
        data: the recipe's.
        catalog: the name of the catalog table.
        start: its row that `samples` begin with.
    """
    columns: dict[str, list[Any]] = {name: [] for name in PAIRS.names}
    left_out = Counter[str]()
    for row, sample in enumerate(samples, start):
        for text, level in _chosen(sample, data, left_out):
            kind = LEVELS[level] if level >= 0 else "original"
            weight = data.weights.get(kind, 1.0)  # type: ignore[call-overload]
            values = (sample.id, sample.key, catalog, row, text, level, weight)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return Collected(pa.table(columns, schema=PAIRS), left_out)


def _chosen(sample: MinedSample, data: TrainingData, left_out: Counter[str]) -> Iterator[tuple[str, int]]:
    if sample.error is not None or sample.offset is None:
        left_out[f"catalog: {sample.error or 'no image'}"] += 1
        return
    seen = set[str]()
    for given, level, reason in _candidates(sample, data):
        text = (given or "").strip()
        if reason is None and not text:
            reason = "empty caption"
        if reason is None and text in seen:
            reason = AGAIN
        if reason is None:
            seen.add(text)
            yield text, level
        else:
            left_out[reason] += 1


def _candidates(sample: MinedSample, data: TrainingData) -> Iterator[_Candidate]:
    if "original" in data.captions:
        yield from ((text, ORIGINAL, None) for text in sample.captions)
    if "mined" not in data.captions:
        return
    if reason := sample.why_not(*_STAGES):
        yield None, ORIGINAL, reason
        return
    items = sample.creative_captions or []
    elements = list(dict.fromkeys(item["element"] for item in items))[: data.elements]
    for item in items:
        reason = None
        if item["level"] not in data.levels:
            reason = "of a level that finetune.data.levels does not name"
        elif item["element"] not in elements:
            reason = "of an element beyond finetune.data.elements"
        elif item["flag"] and item["caption"] and not data.flagged:
            reason = f"flagged: {item['flag']}"
        yield item["caption"], LEVELS.index(item["level"]), reason
