"""The pairs of a run that a model is measured on: its images, and some of their captions, as vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.embeddings import VectorTables, vector_tables
from engine.encoders.own_similarity import OwnSimilarity
from engine.evaluation.mined_captions import mined_captions
from engine.export.mined import MinedRun, SampleReader, open_run
from engine.recipe import Pairs, Recipe
from engine.rundir import RunDirectory
from engine.schema import LEVELS
from engine.stages.embed import texts_of
from engine.storage import StageTables, digest_settings


@dataclass(frozen=True)
class PartPairs:
    """The pairs of one part.

    Attributes:
        images: (n, d), or (n, k, d): vectors of the images that have any.
        texts: (m, d), or (m, k, d): vectors of the captions of these images that have any.
        owners: (m,), int64, ascending: the image of each caption.
        rows: (n,), int64: which sample of the part each image is.
        numbers: (n,), uint64: the images' ids as numbers.
        places: (m,), int64: which of its image's captions each is, from 0 on.
        vectors: (m,), int64: which row of the captions' table of vectors each is.
        without: how many images of the part have no vector.
    """

    images: NDArray[Any]
    texts: NDArray[Any]
    owners: NDArray[np.int64]
    rows: NDArray[np.int64]
    numbers: NDArray[np.uint64]
    places: NDArray[np.int64]
    vectors: NDArray[np.int64]
    without: int


@dataclass(frozen=True)
class PairTables:
    """The tables that hold a set's pairs, seen by one model.

    Attributes:
        images: of the model.
        captions: of the model.
        mined: the captions themselves, where only some of the mined ones count.
        level: of `LEVELS`; None for all that passed their checks.
        texts: the run whose captions count as one text where they are equal; None if each stands alone.
    """

    images: VectorTables
    captions: VectorTables
    mined: StageTables | None = None
    level: str | None = None
    texts: MinedRun | None = None

    @property
    def similarity(self) -> OwnSimilarity:
        """By which the model compares them."""
        return self.images.similarity

    def state(self, plan: pa.Table) -> str:
        """A digest of all that decides the pairs."""
        tables = [table.state(plan) for table in (self.images, self.captions)]
        told = {"level": self.level, **({"same_texts": "together"} if self.texts else {})}
        return digest_settings({"tables": tables, "parts": plan["part"].to_pylist(), **told})

    def read(self, part: str) -> PartPairs:
        """The pairs of a part.

        Raises:
            StorageError: a table is not there, or is not what its fingerprint says.
        """
        images, captions = self.images.images(part), self.captions.captions(part)
        owners = np.repeat(np.arange(len(images.good)), np.diff(captions.offsets))
        kept = images.good[owners]
        if self.mined is not None:
            kept &= self.counted(part, owners, captions.places)
        row = np.cumsum(images.good) - 1
        return PartPairs(
            images.vectors[images.good],
            captions.vectors[kept],
            row[owners[kept]].astype(np.int64),
            np.flatnonzero(images.good),
            images.numbers[images.good],
            captions.places[kept],
            np.flatnonzero(kept),
            int((~images.good).sum()),
        )

    def reader(self) -> SampleReader | None:
        """Of the captions' texts, for `digests`; it holds a shard's catalog, so one serves many parts."""
        return SampleReader(self.texts) if self.texts else None

    def digests(
        self, reader: SampleReader | None, row: Mapping[str, Any], pairs: PartPairs
    ) -> NDArray[np.uint64] | None:
        """(m,), of the captions' texts, equal where these are; None where each stands alone.

        Args:
            reader: of `reader`.
            row: the part's, of the plan.
            pairs: of that part.
        """
        if reader is None:
            return None
        samples = reader.part(row)
        found = np.zeros(len(pairs.owners), np.uint64)
        for number, (sample, place) in enumerate(zip(pairs.rows[pairs.owners], pairs.places, strict=True)):
            text = texts_of(vars(samples[sample]), self.captions.of)[place]
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            found[number] = int.from_bytes(digest, "big")
        return found

    def counted(self, part: str, owners: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m,): which mined captions passed their checks and are of the level, by sample and place."""
        assert self.mined is not None
        lists, _, good = mined_captions(self.mined, part, self.level)
        counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        found: NDArray[np.bool_] = good[(np.cumsum(counts) - counts)[owners] + places]
        return found


def pair_tables(
    recipe: Recipe,
    run: RunDirectory,
    model: str,
    chosen: Pairs,
    section: str,
    together: bool = False,
    own: bool = False,
) -> PairTables:
    """The tables of a set's pairs, seen by a model.

    Args:
        recipe: of the set's run.
        run: the set's.
        model: an encoder of images and texts.
        chosen: the set.
        section: of the recipe that asks, for the message.
        together: whether captions that are equal are one text.
        own: whether the model may compare by any similarity of its own, and not by cosines alone.

    Raises:
        RecipeError: the run's recipe does not make such vectors.
    """
    images = vector_tables(recipe, run, model, "images", section, "any" if own else "several")
    captions = vector_tables(recipe, run, model, chosen.source, section, "any" if own else "one")
    opened = open_run(run, recipe) if together or chosen.source == "mined" else None
    texts = opened.bare() if opened and together else None
    if opened is None or chosen.source != "mined":
        return PairTables(images, captions, texts=texts)
    level = chosen.captions if chosen.captions in LEVELS else None
    return PairTables(images, captions, opened.tables("caption"), level, texts)
