"""Captions that people refused for an image, compared with that image on Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from engine.errors import RecipeError
from engine.evaluation.negatives import Others
from engine.evaluation.pairs import PairTables
from engine.flow.spread import call, each, slices, start
from engine.retrieval.sets import paired


def compare_refused(plan: pa.Table, refused: PairTables, place: str) -> Any:
    """A reference to the `Others` of a set: each image with the captions refused for it.

    An image and its captions lie in one part, so no part is compared with another.

    Args:
        plan: the parts, in the order in which `rank_pairs` numbers their images.
        refused: the images and these captions.
        place: what the recipe calls the set, for the message.

    Raises:
        RecipeError: there is no such pair.
    """
    made = start(_joined, each(slices(plan["part"].to_pylist()), _compare, refused))
    if not call(_count, made):
        raise RecipeError(
            f"{place}, negatives: no image has a caption ({refused.captions.of}) with a vector; correct the "
            "name, or take it out of the set to compare with captions of other images"
        )
    return made


def _compare(parts: Sequence[str], refused: PairTables) -> tuple[int, Others]:
    """How many images a slice has, and its pairs, whose images are numbered from 0."""
    images, found = 0, list[Others]()
    for part in parts:
        some = refused.read(part)
        scores = paired(refused.similarity, some.images[some.owners], some.texts).numpy()
        found.append(Others(scores, some.owners + images))
        images += len(some.images)
    return images, _one_after_the_other(found)


def _joined(pieces: Sequence[Any]) -> Others:
    images, found = 0, list[Others]()
    for count, some in ray.get(list(pieces)):
        found.append(Others(some.scores, some.images + images))
        images += count
    return _one_after_the_other(found)


def _one_after_the_other(pieces: Sequence[Others]) -> Others:
    return Others(
        np.concatenate([piece.scores for piece in pieces]), np.concatenate([piece.images for piece in pieces])
    )


def _count(others: Any) -> int:
    found: Others = others
    return len(found.scores)
