"""Small pictures and captions of chosen images, for maps and galleries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from engine.catalog import read_part
from engine.clustering.tables import Clustering, numbers_in
from engine.decoding import decode
from engine.embeddings import numbers_of
from engine.errors import SampleError
from engine.export.mined import MinedRun, MinedSample, SampleReader
from engine.flow.members import is_in
from engine.flow.spread import each, results, slices
from engine.maps.gallery import thumbnail

_SIDE = 96
_CAPTIONS = 4
#: Rows of a part that are read one by one; of more the whole part is read.
_FEW = 8


@dataclass(frozen=True)
class Glimpse:
    """An image as a page shows it: its key, some captions, a JPEG where it can be decoded."""

    key: str
    original: tuple[str, ...]
    mined: tuple[str, ...]
    picture: bytes | None

    @property
    def captions(self) -> tuple[str, ...]:
        """One caption it came with, and then mined ones."""
        return (*self.original[:1], *self.mined)[:_CAPTIONS]


def glimpses(
    wanted: NDArray[np.uint64], mined: MinedRun, plan: Sequence[Mapping[str, Any]], place: Clustering
) -> dict[int, Glimpse]:
    """Glimpses of the wanted images, by id as a number; called in a task, and spread over others."""
    reference = ray.put(np.sort(wanted))
    # Ids are read first: a few images lie in a few parts.
    holding = each(slices([row["part"] for row in plan]), _parts_with, reference, place)
    names = {part for parts in results(holding) for part in parts}
    rows = [row for row in plan if row["part"] in names]
    found: dict[int, Glimpse] = {}
    for piece in results(each(slices(rows, 1), _glimpse, reference, mined.bare())):
        found |= piece
    return found


def _parts_with(parts: Sequence[str], wanted: NDArray[np.uint64], place: Clustering) -> list[str]:
    return [part for part in parts if is_in(numbers_in(place.read(part, ("id",))), wanted).any()]


def _glimpse(
    parts: Sequence[Mapping[str, Any]], wanted: NDArray[np.uint64], mined: MinedRun
) -> dict[int, Glimpse]:
    reader, found = SampleReader(mined), dict[int, Glimpse]()
    for row in parts:
        samples = reader.part(row)
        numbers = numbers_of([sample.id for sample in samples])
        chosen = np.flatnonzero(is_in(numbers, wanted)).tolist()
        pictures = _pictures(mined, row, chosen)
        for at in chosen:
            found[int(numbers[at])] = _of(samples[at], pictures[at])
    return found


def _of(sample: MinedSample, picture: bytes | None) -> Glimpse:
    # One that could not be written is null beside those that could.
    captions = [item["caption"] for item in sample.creative_captions or () if item["caption"]]
    # From all over the list: its first are of one element and one level.
    step = max(len(captions) // _CAPTIONS, 1)
    return Glimpse(sample.key, tuple(sample.captions), tuple(captions[::step]), picture)


def _pictures(mined: MinedRun, row: Mapping[str, Any], chosen: list[int]) -> dict[int, bytes | None]:
    place = mined.directory.catalog / row["catalog"]
    if len(chosen) > _FEW:
        table = read_part(place, row["start"], row["rows"])
        data = table["image"].to_pylist()
        return {at: _thumbnail(data[at], mined) for at in chosen}
    tables = {at: read_part(place, row["start"] + at, 1) for at in chosen}
    return {at: _thumbnail(table["image"][0].as_py(), mined) for at, table in tables.items()}


def _thumbnail(data: bytes | None, mined: MinedRun) -> bytes | None:
    if data is None:
        return None
    try:
        image = decode(data, mined.recipe.images.max_pixels, (_SIDE, _SIDE))
    except SampleError:
        return None
    return thumbnail(image, _SIDE)
