"""The order of an epoch: which captions make which batch, a function of the seed and the epoch.

The number of workers plays no part: each takes its rows of every batch (`World.rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import RecipeError
from engine.generation.protocol import derive_seed
from engine.training.apart import apart
from engine.training.batches import Batches, Ints, Stream, even_bounds, shuffled_batches

Order = Literal["shuffled", "balanced", "interleaved"]


def batch_count(captions: int, order: Order, batch: int) -> int:
    """Batches of an epoch."""
    return -(-captions // batch) * (2 if order == "interleaved" else 1)


def check_order(image: NDArray[Any], order: Order, batch: int) -> None:
    """Refuse a batch size that does not go with the data.

    Args:
        image: (n,), of each caption the number of its image.
        order: the recipe's.
        batch: the recipe's.

    Raises:
        RecipeError: it is larger than the data; or, where the order is shuffled, some image must
            be in a batch twice; or a batch would hold one caption.
    """
    captions = np.unique(image, return_counts=True)[1]
    most, batches = int(captions.max(initial=0)), batch_count(len(image), order, batch)
    fits = len(image)
    if order == "shuffled":
        # The largest b with ceil(n / b) >= most.
        fits = min(len(captions), -(-len(image) // (most - 1)) - 1 if most > 1 else len(captions))
    if batch <= fits:
        # Of each stream of the order; a recipe's batch is 2 at least.
        if batch > 1 and len(image) // -(-len(image) // batch) < 2:
            way_out = f"take {batch + 1}" if batch < fits else "mine or name more images"
            raise RecipeError(
                f"finetune.batch is {batch}, and there are {len(image):,} captions: one of them would be a "
                f"batch with nothing to compare it with; {way_out}"
            )
        return
    lower = f"lower it to at most {fits:,}" if fits > 1 else ""
    there = f"finetune.batch is {batch}, and there are "
    if batch > len(image):
        once = ", and no image is in a batch twice" if order == "shuffled" else ""
        raise RecipeError(
            f"{there}{len(image):,} captions of {len(captions):,} image{'s' * (len(captions) > 1)}{once}: "
            f"{lower or 'mine or name more images'}"
        )
    if batch > len(captions):
        raise RecipeError(
            f"{there}{len(captions):,} images with captions, of which none may be in a batch twice: "
            f"{lower or 'mine or name more images'}"
        )
    raise RecipeError(
        f"finetune.batch is {batch}, which makes {batches:,} batches of an epoch, and one image has "
        f"{most:,} captions, of which no two may be in one batch: {lower + ', or ' if lower else ''}"
        "take fewer captions of an image (finetune.data.elements, finetune.data.levels)"
    )


def epoch_batches(
    image: NDArray[Any],
    level: NDArray[Any],
    order: Order,
    batch: int,
    shares: Sequence[float],
    seed: int,
    epoch: int,
) -> Batches:
    """The batches of an epoch; of each stream sizes differ by one at most, and are `batch` at most.

    `shuffled`: every caption once, in random order, no image twice in a batch. `balanced` (METHODS
    A7): every caption once; round robin over the images in random order, of each image one caption
    of every level in a pass, and in the first those that it came with; consecutive captions are a
    batch; then batches are shuffled, and each within itself. `interleaved` (METHODS A7): a batch that
    is shuffled in the plain sense, so that an image may be in it twice, takes turns with a balanced
    one; every caption once in each of the two.

    Args:
        image: (n,), of each caption the number of its image, from 0.
        level: (n,), its level, from -1.
        order: the recipe's.
        batch: the most captions of a batch.
        shares: weights of the two kinds of batches of `interleaved`, the shuffled ones first.
        seed: the run's.
        epoch: from 0.

    Raises:
        RecipeError: see `check_order`.
    """
    random = np.random.default_rng(derive_seed(seed, "finetune", "order", epoch))
    owner, count = image.astype(np.int64), batch_count(len(image), "shuffled", batch)
    if order == "shuffled":
        if len(owner):
            check_order(owner, order, batch)
        return Batches((apart(owner, count, random),), (1.0,))
    balanced = _balanced(owner, level, count, random)
    if order == "balanced":
        return Batches((balanced,), (1.0,))
    plain = Stream(random.permutation(len(owner)), even_bounds(len(owner), count))
    return Batches((plain, balanced), (float(shares[0]), float(shares[1])))


def _balanced(owner: Ints, level: NDArray[Any], batches: int, random: np.random.Generator) -> Stream:
    """Round robin over images and levels, cut into batches."""
    mixed = random.permutation(len(owner))
    number = random.permutation(int(owner.max(initial=0)) + 1)[owner]
    kind = number * (int(level.max(initial=0)) + 2) + level.astype(np.int64) + 1
    rows = mixed[np.argsort(kind[mixed], kind="stable")]
    # The pass in which a caption is taken: how many of its image and level come before it.
    begins = np.flatnonzero(np.diff(kind[rows], prepend=-1))
    turn = np.arange(len(rows)) - np.repeat(begins, np.diff(begins, append=len(rows)))
    # Captions that an image came with are of no level, and come together in the first pass.
    turn[level[rows] < 0] = 0
    rows = rows[np.argsort(turn, kind="stable")]
    place = np.repeat(np.arange(batches), np.diff(even_bounds(len(rows), batches)))
    return shuffled_batches(rows, place, batches, random)
