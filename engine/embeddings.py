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
from engine.vector_columns import directions, matrix

#: Notes of failures that are read at once.
_THREADS = 32


@dataclass(frozen=True)
class ImageVectors:
    """The images of one part.

    Attributes:
        numbers: (n,), uint64: the samples' ids as numbers; see `numbers_of`.
        ids, keys: (n,), of the samples.
        good: (n,), bool: which have a vector.
        vectors: (n, d), float16 or float32, unit rows; zero where there is none. Of an encoder that
            gives an image k vectors (n, k, d).
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
        counts: (n,), int64: how many captions each sample has, with and without a vector.
        offsets: (n + 1,), int64: the rows of each sample's captions; those without a vector are
            left out.
        places: (c,), int64: which of its sample's captions each row is, from 0 on.
        vectors: (c, d), float16 or float32, unit rows.
    """

    counts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    places: NDArray[np.int64]
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
    #: Of each image; above 1 where the nearest to a caption counts.
    vectors: int = 1

    def missing(self, plan: pa.Table) -> int:
        """How many of the plan's parts have no table yet."""
        return len(set(plan["part"].to_pylist()) - self.tables.done())

    def state(self, plan: pa.Table) -> str:
        """A digest of what the tables hold; see `state_of`."""
        return state_of(self.tables, self.fingerprint, plan)

    def images(self, part: str) -> ImageVectors:
        """The vectors of a part's images.

        Raises:
            StorageError: the table is not there, or is not what its fingerprint says.
        """
        table = self._read(part)
        vectors = matrix(table["vector"].combine_chunks(), self.width, self.vectors)
        errors = table["error"].to_pylist()
        # A table is only a file: what somebody else wrote into it may be no direction.
        good = directions(vectors)
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
        vectors = matrix(lists.flatten(), self.width)
        good = directions(vectors)
        owner = np.repeat(np.arange(len(counts)), counts)
        kept = np.bincount(owner[good], minlength=len(counts))
        offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        places = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return CaptionVectors(counts, offsets, places[good], vectors[good])

    def _read(self, part: str) -> pa.Table:
        table = self.tables.read(part, self.schema)
        if table is None:
            raise StorageError(f"{self.tables.table(part).uri}: is not there; {_make(self.encoder)}")
        return table


def state_of(tables: StageTables, fingerprint: str, plan: pa.Table) -> str:
    """A digest of what a stage's tables hold: their fingerprint, and what failed, which a retry changes."""
    failed = sorted(tables.failed() & set(plan["part"].to_pylist()))
    with ThreadPoolExecutor(_THREADS) as threads:
        notes = threads.map(tables.failures, failed)
        return digest_settings({"tables": fingerprint, "failed": list(zip(failed, notes, strict=True))})


def vector_tables(
    recipe: Recipe, run: RunDirectory, encoder: str, of: Of, section: str, several: bool = False
) -> VectorTables:
    """The tables of an encoder's vectors.

    Args:
        recipe: whose section `embed` makes them.
        run: where they lie.
        encoder: its name, as in `embed.encoders`.
        of: images, original or mined captions.
        section: of the recipe that asks, for the message.
        several: whether an image may have several vectors.

    Raises:
        RecipeError: the recipe does not make such vectors.
    """
    for stage in build_stages(recipe):
        if not isinstance(stage, EmbedStage) or (stage.encoder.text, stage.of) != (encoder, of):
            continue
        kind = stage.schema.field("vector" if of == "images" else "vectors").type
        kind, vectors = kind if of == "images" else kind.value_type, 1
        if pa.types.is_fixed_size_list(kind.value_type):
            kind, vectors = kind.value_type, kind.list_size
        if vectors > 1 and not several:
            raise RecipeError(
                f"{section}: encoder '{encoder}' gives an image {vectors} vectors; name one that gives one"
            )
        tables = run.tables(stage)
        return VectorTables(encoder, of, kind.list_size, stage.schema, tables, stage.fingerprint, vectors)
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
