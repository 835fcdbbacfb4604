"""A run's vectors as its jobs read them: one encoder's, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.encoders.card import read_card
from engine.encoders.own_similarity import COSINE, MatchingProbability, OwnSimilarity
from engine.errors import RecipeError, StorageError
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.stages import build_stages
from engine.stages.embed import NO_DIRECTION, EmbedStage, Of
from engine.storage import StageTables, digest_settings
from engine.vector_columns import directions, matrix

#: What a job can compare: single unit vectors; several unit vectors, the nearest of which counts; or
#: whatever an encoder gives, by its own similarity.
Takes = Literal["one", "several", "any"]


@dataclass(frozen=True)
class ImageVectors:
    """The images of one part.

    Attributes:
        numbers: (n,), uint64: the samples' ids as numbers; see `numbers_of`.
        ids, keys: (n,), of the samples.
        good: (n,), bool: which have a vector.
        vectors: (n, d), float16 or float32, zero where there is none; unit rows, where the encoder's
            similarity wants such. Of an encoder that gives an image k vectors (n, k, d).
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
        vectors: (c, d), or (c, k, d), float16 or float32; see `ImageVectors`.
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
    #: Of each image, or each caption.
    vectors: int = 1
    similarity: OwnSimilarity = COSINE

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
        good = directions(vectors, self.similarity.unit)
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
        vectors = matrix(lists.flatten(), self.width, self.vectors)
        good = directions(vectors, self.similarity.unit)
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
    failed = tables.failures_of(tables.failed() & set(plan["part"].to_pylist()))
    return digest_settings({"tables": fingerprint, "failed": list(failed)})


def vector_tables(
    recipe: Recipe, run: RunDirectory, encoder: str, of: Of, section: str, takes: Takes = "one"
) -> VectorTables:
    """The tables of an encoder's vectors.

    Args:
        recipe: whose section `embed` makes them.
        run: where they lie.
        encoder: its name, as in `embed.encoders`.
        of: images, original or mined captions.
        section: of the recipe that asks, for the message.
        takes: what it can compare.

    Raises:
        RecipeError: the recipe does not make such vectors, or they cannot be compared so.
    """
    for stage in build_stages(recipe):
        if not isinstance(stage, EmbedStage) or (stage.encoder.text, stage.of) != (encoder, of):
            continue
        kind = stage.schema.field("vector" if of == "images" else "vectors").type
        kind, vectors = kind if of == "images" else kind.value_type, 1
        if pa.types.is_fixed_size_list(kind.value_type):
            kind, vectors = kind.value_type, kind.list_size
        similarity = read_card(stage.encoder).similarity
        if refusal := _why_not(encoder, vectors, similarity, of, takes):
            raise RecipeError(f"{section}: encoder '{encoder}' {refusal}")
        made = run.tables(stage), stage.fingerprint
        return VectorTables(encoder, of, kind.list_size, stage.schema, *made, vectors, similarity)
    known = ", ".join(recipe.embed.encoders) if recipe.embed else "none"
    asked = ("images", *recipe.embed.texts) if recipe.embed else ()
    listed = recipe.embed is not None and encoder in recipe.embed.encoders and of in asked
    what = "images" if of == "images" else f"{of} captions (embed.texts)"
    raise RecipeError(
        f"{section}: encoder '{encoder}' does not embed {what} in this recipe (embed.encoders: {known}); "
        + ("it reads no such thing: name one that does" if listed else "add it to the section embed")
    )


def _why_not(encoder: str, vectors: int, similarity: OwnSimilarity, of: Of, takes: Takes) -> str | None:
    # Of the distributions that pcme has learned there are means, too.
    sampled = encoder.startswith("connote:") and isinstance(similarity, MatchingProbability)
    if sampled and takes != "any":
        return f"gives samples, and compares by {similarity.kind}; name '{encoder}@mean' instead"
    if takes == "one" and vectors > 1:
        what = "an image" if of == "images" else "a caption"
        return f"gives {what} {vectors} vectors; name one that gives one"
    if takes != "any" and similarity != COSINE:
        return f"compares by {similarity.kind}; name one that compares by cosines"
    return None


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
