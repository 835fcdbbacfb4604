"""The pairs of a run, collected by Ray tasks; captions travel between tasks, and counts come back.

Nothing here imports torch, which would cost each task's process seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from engine.export.mined import MinedRun, SampleReader
from engine.flow.spread import call, each, slices
from engine.recipe.finetune import Finetune
from engine.recipe.finetune_parts import TrainingData
from engine.storage import Location
from engine.training.captions import Collected, collect
from engine.training.pairs import join
from engine.training.reader import ImageReader


def collect_pairs(
    mined: MinedRun, place: Location, settings: Finetune, seed: int, say: Callable[[str], None]
) -> None:
    """Write the pairs that the settings choose.

    Raises:
        RecipeError: there are none or too few, or their images cannot be read one by one.
        StorageError: the run directory fails.
    """
    found = each(slices(list(mined.parts())), _collect_slice, mined.bare(), settings.data)
    for line in call(_join, found, mined.directory.catalog, place, settings, seed):
        say(line)


def _collect_slice(parts: Sequence[Mapping[str, Any]], mined: MinedRun, data: TrainingData) -> Collected:
    reader = SampleReader(mined)
    return collect(((row["catalog"], row["start"], reader.part(row)) for row in parts), data)


def _join(found: list[Any], catalog: Location, place: Location, settings: Finetune, seed: int) -> list[str]:
    pairs = join([ray.get(reference) for reference in found], settings, seed)
    ImageReader(catalog, pairs.images).check()
    pairs.write(place)
    return pairs.told()
