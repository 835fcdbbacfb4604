"""The captions of a set as texts, part by part: which of them count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.catalog.extra import texts_in
from engine.embeddings import state_of
from engine.errors import RecipeError, SampleError
from engine.evaluation.mined_captions import mined_captions
from engine.export.mined import open_run
from engine.recipe import Pairs, Recipe
from engine.recipe.texts import field_of
from engine.rundir import RunDirectory
from engine.schema import CATALOG, LEVELS
from engine.storage import StageTables, digest_settings


@dataclass(frozen=True)
class PartTexts:
    """The captions of one part.

    Attributes:
        starts: (n,), int64: the first caption of each sample.
        owners: (c,), int64, ascending: the sample of each caption.
        kept: (c,), bool: which count: of a mined one, that it passed its checks and is of the level.
        texts: c strings, or nulls.
    """

    starts: NDArray[np.int64]
    owners: NDArray[np.int64]
    kept: NDArray[np.bool_]
    texts: pa.Array

    @classmethod
    def of(cls, lists: pa.ListArray, kept: NDArray[np.bool_], texts: pa.Array) -> PartTexts:
        """Of the lists that hold a part's captions, and of what is in them."""
        counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(np.cumsum(counts) - counts, np.repeat(np.arange(len(counts)), counts), kept, texts)


@dataclass(frozen=True)
class CaptionTexts:
    """Where the captions of a set lie.

    Attributes:
        run: the set's.
        mined: the tables of mined captions; None for those that the images came with.
        fingerprint: of these tables.
        level: of `LEVELS`; None for all mined ones that passed their checks.
        field: of the source's records, whose texts they are; None for captions of the images or mined ones.
    """

    run: RunDirectory
    mined: StageTables | None = None
    fingerprint: str = ""
    level: str | None = None
    field: str | None = None

    @classmethod
    def of(cls, recipe: Recipe, run: RunDirectory, chosen: Pairs) -> CaptionTexts:
        """The captions of a set, whose run has this recipe.

        Raises:
            RecipeError: it mines no captions, and such are asked for.
            StorageError: the run has no plan yet.
        """
        if chosen.source != "mined":
            return cls(run, field=field_of(chosen.source))
        opened = open_run(run, recipe)
        if "caption" not in opened.fingerprints:
            raise RecipeError("its recipe mines no captions; add the section caption, or name original ones")
        level = chosen.captions if chosen.captions in LEVELS else None
        return cls(run, opened.tables("caption"), opened.fingerprints["caption"], level)

    def state(self, plan: pa.Table) -> str:
        """A digest of all that decides the captions; the parts' names tell those that images came with."""
        mined = state_of(self.mined, self.fingerprint, plan) if self.mined else None
        told = {"level": self.level, **({"field": self.field} if self.field else {})}
        return digest_settings({"parts": plan["part"].to_pylist(), "mined": mined, **told})

    def check_complete(self, plan: pa.Table) -> None:
        """Refuse a run whose captions are not all there.

        Raises:
            RecipeError: the message names the command that makes them.
        """
        missing = len(set(plan["part"].to_pylist()) - self.mined.done()) if self.mined else 0
        if missing:
            raise RecipeError(
                f"{missing:,} of {len(plan):,} parts have no mined captions yet; `connote run RECIPE` makes "
                "them"
            )


class TextReader:
    """Reads captions part by part; memory holds one part, and the captions of one shard."""

    def __init__(self, source: CaptionTexts) -> None:
        self._source = source
        self._name, self._catalog = "", CATALOG.empty_table()

    def part(self, row: Mapping[str, Any]) -> PartTexts:
        """The captions of a part (a row of the plan), in the order of its samples.

        Raises:
            StorageError: a table is not there, or is not what its fingerprint says.
        """
        return self._mined(row) if self._source.mined else self._original(row)

    def _original(self, row: Mapping[str, Any]) -> PartTexts:
        """Those that the images came with, or a field's; of a sample that could not be read none counts."""
        field = self._source.field
        column = "captions" if field is None else "extra"
        if self._name != row["catalog"]:
            place = self._source.run.catalog / row["catalog"]
            self._name, self._catalog = row["catalog"], place.read_table([column, "error"])
        table = self._catalog.slice(row["start"], row["rows"]).combine_chunks()
        lists, texts = _lists(table[column] if field is None else _field_texts(table[column], field))
        good = table["error"].is_null().to_numpy()
        made = PartTexts.of(lists, np.ones(len(texts), np.bool_), texts)
        made.kept[:] = good[made.owners]
        return made

    def _mined(self, row: Mapping[str, Any]) -> PartTexts:
        tables, level = self._source.mined, self._source.level
        assert tables is not None
        lists, items, kept = mined_captions(tables, row["part"], level, row["rows"])
        return PartTexts.of(lists, kept, items.field("caption"))


def _field_texts(extras: pa.ChunkedArray, field: str) -> pa.ChunkedArray:
    """The texts of each sample; of a field that holds something else there are none."""
    found = list[list[str]]()
    for extra in extras.to_pylist():
        try:
            found.append(texts_in(extra, field))
        except SampleError:
            found.append([])
    return pa.chunked_array([pa.array(found, pa.list_(pa.string()))])


def _lists(column: pa.ChunkedArray) -> tuple[pa.ListArray, pa.Array]:
    """A column of lists, and what is in them."""
    lists = column.combine_chunks()
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    return lists, lists.flatten()
