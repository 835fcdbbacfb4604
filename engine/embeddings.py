"""A run's vectors as its jobs read them: one encoder's, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import RecipeError, StorageError
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.stages import build_stages
from engine.stages.embed import NO_DIRECTION, EmbedStage, Of
from engine.storage import StageTables, digest_settings

#: Notes of failures that are read at once.
_THREADS = 32
#: How far from 1 the square of a unit vector's length may be in the precision of its table.
_OFF = 0.02


@dataclass(frozen=True)
class ImageVectors:
    """The images of one part.

    Attributes:
        numbers: (n,), uint64: the samples' ids as numbers; see `numbers_of`.
        ids, keys: (n,), of the samples.
        good: (n,), bool: which have a vector.
        vectors: (n, d), float16 or float32, unit rows; zero where there is none.
        errors: (n,), why there is none, or None.
    """

    numbers: NDArray[np.uint64]
    ids: list[str]
    keys: list[str]
    good: NDArray[np.bool_]
    vectors: NDArray[Any]
    errors: list[str | None]


@dataclass(frozen=True)
class CaptionVectors:
    """The captions of the images of one part.

    Attributes:
        offsets: (n + 1,), int64: the rows of each sample's captions; those without a vector are
            left out.
        vectors: (c, d), float16 or float32, unit rows.
    """

    offsets: NDArray[np.int64]
    vectors: NDArray[Any]


@dataclass(frozen=True)
class VectorTables:
    """The tables that one encoder has filled in a run."""

    encoder: str
    of: Of
    width: int
    schema: pa.Schema
    tables: StageTables
    fingerprint: str

    def missing(self, plan: pa.Table) -> int:
        """How many of the plan's parts have no table yet."""
        return len(set(plan["part"].to_pylist()) - self.tables.done())

    def state(self, plan: pa.Table) -> str:
        """A digest of what the tables hold: their fingerprint, and what failed, which a retry changes."""
        failed = sorted(self.tables.failed() & set(plan["part"].to_pylist()))
        with ThreadPoolExecutor(_THREADS) as threads:
            notes = threads.map(self.tables.failures, failed)
            return digest_settings(
                {"tables": self.fingerprint, "failed": list(zip(failed, notes, strict=True))}
            )

    def images(self, part: str) -> ImageVectors:
        """The vectors of a part's images.

        Raises:
            StorageError: the table is not there, or is not what its fingerprint says.
        """
        table = self._read(part)
        vectors = _matrix(table["vector"].combine_chunks(), self.width)
        errors = table["error"].to_pylist()
        # A table is only a file: what somebody else wrote into it may be no direction.
        good = _directions(vectors)
        for row in np.flatnonzero(~good):
            errors[row] = errors[row] or NO_DIRECTION
        vectors[~good] = 0
        ids = table["id"].to_pylist()
        return ImageVectors(numbers_of(ids), ids, table["key"].to_pylist(), good, vectors, errors)

    def captions(self, part: str) -> CaptionVectors:
        """The vectors of the captions of a part's images, in the order of `images`; see there."""
        table = self._read(part)
        lists = table["vectors"].combine_chunks()
        counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        vectors = _matrix(lists.flatten(), self.width)
        good = _directions(vectors)
        owner = np.repeat(np.arange(len(counts)), counts)
        kept = np.bincount(owner[good], minlength=len(counts))
        offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        return CaptionVectors(offsets, vectors[good])

    def _read(self, part: str) -> pa.Table:
        table = self.tables.read(part, self.schema)
        if table is None:
            raise StorageError(f"{self.tables.table(part).uri}: is not there; {_make(self.encoder)}")
        return table


def vector_tables(recipe: Recipe, run: RunDirectory, encoder: str, of: Of, section: str) -> VectorTables:
    """The tables of an encoder's vectors.

    Args:
        recipe: whose section `embed` makes them.
        run: where they lie.
        encoder: its name, as in `embed.encoders`.
        of: images, original or mined captions.
        section: of the recipe that asks, for the message.

    Raises:
        RecipeError: the recipe does not make such vectors.
    """
    for stage in build_stages(recipe):
        if not isinstance(stage, EmbedStage) or (stage.encoder.text, stage.of) != (encoder, of):
            continue
        kind = stage.schema.field("vector" if of == "images" else "vectors").type
        kind = kind if of == "images" else kind.value_type
        if pa.types.is_fixed_size_list(kind.value_type):
            raise RecipeError(
                f"{section}: encoder '{encoder}' gives an image {kind.list_size} vectors; name one "
                "that gives one"
            )
        return VectorTables(encoder, of, kind.list_size, stage.schema, run.tables(stage), stage.fingerprint)
    known = ", ".join(recipe.embed.encoders) if recipe.embed else "none"
    asked = ("images", *recipe.embed.texts) if recipe.embed else ()
    listed = recipe.embed is not None and encoder in recipe.embed.encoders and of in asked
    what = "images" if of == "images" else f"{of} captions (embed.texts)"
    raise RecipeError(
        f"{section}: encoder '{encoder}' does not embed {what} in this recipe (embed.encoders: {known}); "
        + ("it reads no such thing: name one that does" if listed else "add it to the section embed")
    )


def check_complete(tables: Sequence[VectorTables], plan: pa.Table | None) -> pa.Table:
    """The plan, if every part of it has its vectors.

    Raises:
        RecipeError: some have not; the message names the command that makes them.
    """
    if plan is None or not len(plan):
        raise RecipeError(f"there are no vectors yet; {_make(tables[0].encoder)}")
    for each in tables:
        if missing := each.missing(plan):
            raise RecipeError(
                f"{missing:,} of {len(plan):,} parts have no vectors of '{each.encoder}' ({each.of}) yet; "
                f"{_make(each.encoder)}"
            )
    return plan


def numbers_of(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Ids (16 hexadecimal digits) as numbers of the same order."""
    return np.frombuffer(bytes.fromhex("".join(ids)), ">u8").astype(np.uint64)


def rows_of(ordered: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The rows of numbers among others in ascending order; -1 for those that are not there."""
    if not len(ordered):
        return np.full(numbers.shape, -1, np.int64)
    at = np.searchsorted(ordered, numbers).clip(max=len(ordered) - 1)
    return np.where(ordered[at] == numbers, at, -1).astype(np.int64)


def _make(encoder: str) -> str:
    return f"`connote run RECIPE` makes them, with '{encoder}' under embed.encoders"


def _matrix(lists: Any, width: int) -> NDArray[Any]:
    """(n, width), a copy; zero rows where a list is null."""
    rows = np.zeros((len(lists), width), lists.type.value_type.to_pandas_dtype())
    rows[lists.is_valid().to_numpy(zero_copy_only=False)] = (
        lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    )
    return rows


def _directions(vectors: NDArray[Any]) -> NDArray[np.bool_]:
    rows = vectors.astype(np.float32)
    squares = np.einsum("nd,nd->n", rows, rows)
    # What is not of unit length was not written by an encoder of ours.
    good: NDArray[np.bool_] = np.abs(squares - 1) < _OFF
    return good
