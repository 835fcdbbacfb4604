"""Where the categories of a set's pairs are from: a division by difficulty, or labels out of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.catalog.extra import field_value
from engine.difficulty.tables import Division
from engine.difficulty.voting import CATEGORIES
from engine.errors import RecipeError
from engine.evaluation.categories import Categories
from engine.evaluation.pairs import PairTables
from engine.export.mined import MinedRun, MinedSample, SampleReader
from engine.stages.embed import texts_of


@dataclass(frozen=True)
class Labels:
    """Labels in a field of the source's records: of each caption of an image, or one of all of them.

    Attributes:
        run: whose catalog has them.
        of: which captions they belong to: `original`, `mined`, field:NAME.
        field: `NAME` of the recipe's field:NAME.
    """

    run: MinedRun
    of: str
    field: str

    @classmethod
    def of_pairs(cls, run: MinedRun, pairs: PairTables, field: str) -> Labels:
        """Those of the pairs of a run."""
        # Only mined captions lie in tables of stages; without these just the catalog is read.
        fingerprints = run.fingerprints if pairs.captions.of == "mined" else {}
        return cls(replace(run.bare(), fingerprints=fingerprints), pairs.captions.of, field)

    def read(
        self,
        reader: SampleReader,
        row: Mapping[str, Any],
        numbers: NDArray[np.int64],
        places: NDArray[np.int64],
    ) -> Categories:
        """The category of each pair of a part.

        Args:
            reader: of `run`; it holds a shard's catalog, so one serves many parts.
            row: the part's, of the plan.
            numbers: (m,), which sample of the part each pair is of.
            places: (m,), which of its sample's captions each is of, from 0 on.

        Raises:
            RecipeError: a sample's labels are no texts, or not as many as its captions.
        """
        samples, labels = reader.part(row), dict[int, list[str | None]]()
        found = list[str | None]()
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
            if number not in labels:
                labels[number] = self._labels(samples[number])
            found.append(labels[number][place])
        return Categories.of(found)

    def _labels(self, sample: MinedSample) -> list[str | None]:
        """Of each caption of a sample; None where it has none."""
        count, value = len(texts_of(vars(sample), self.of)), field_value(sample.extra, self.field)
        labels = value if isinstance(value, list) else [value] * count
        wrong = [label for label in labels if not isinstance(label, str | None)]
        if wrong:
            raise self._refused(sample, f"holds {wrong[0]!r}, which is no text")
        if len(labels) != count:
            raise self._refused(
                sample,
                f"holds {len(labels)} labels for {count} captions ({self.of}); give one for each caption "
                "that is kept (empty ones are not, nor are more than images.captions_each), null for none, "
                "or one text for all",
            )
        return [label.strip() or None if label else None for label in labels]

    def _refused(self, sample: MinedSample, why: str) -> RecipeError:
        return RecipeError(
            f"evaluate.sets, categories: sample {sample.key!r} ({sample.uri}): its field '{self.field}' {why}"
        )


def told_by(source: Division | Labels | None) -> dict[str, str | None]:
    """What decides the categories, for a fingerprint; of a set without labels nothing is said of them."""
    if isinstance(source, Labels):
        return {"division": None, "categories": source.field}
    return {"division": source.directory.name if source else None}


class CategoryReader:
    """Reads the categories of a set's pairs, part by part."""

    def __init__(self, source: Division | Labels | None) -> None:
        self._source = source
        self._samples = SampleReader(source.run) if isinstance(source, Labels) else None

    def read(
        self, row: Mapping[str, Any], numbers: NDArray[np.int64], places: NDArray[np.int64]
    ) -> Categories:
        """The category of each pair of a part (a row of the plan); other args as of `Labels.read`.

        Raises:
            RecipeError: see `Labels.read`.
            StorageError: a division's table is not there.
        """
        if isinstance(self._source, Division):
            return Categories(self._source.codes_of(row["part"], numbers, places), CATEGORIES)
        if self._source is None or self._samples is None:
            return Categories(np.full(len(numbers), -1, np.int8))
        return self._source.read(self._samples, row, numbers, places)
