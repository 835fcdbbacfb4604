"""Batches in which no image is twice: a random order is mended, or captions are dealt like cards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.training.batches import Ints, Stream, even_bounds, shuffled_batches

#: Rounds of swaps; of 83,000 images with 20 captions each, in batches of 512, two mend everything.
_ROUNDS = 24
#: Partners that are tried in a round at least, over all captions that look for one.
_PARTNERS = 2**16
#: Where a round mends less than one in so many, there is hardly a place that fits.
_HOPELESS = 8


def apart(owner: Ints, batches: int, random: np.random.Generator) -> Stream:
    """Every caption once, no image twice in a batch."""
    rows, bounds = random.permutation(len(owner)), even_bounds(len(owner), batches)
    place = np.repeat(np.arange(batches), np.diff(bounds))
    return Stream(rows, bounds) if _mend(rows, owner, place, random) else _dealt(owner, batches, random)


def _mend(rows: Ints, owner: Ints, batch: Ints, random: np.random.Generator) -> bool:
    """Swap captions between batches until no image is in one twice; whether that was reached.

    Args:
        rows: (n,), captions in their order; changed in place.
        owner: (n,), the image of each caption.
        batch: (n,), the batch of each place in `rows`.
        random: draws the partners.
    """
    image, images = owner[rows], int(owner.max(initial=0)) + 1
    wrong = np.flatnonzero(~_first(batch * images + image))
    for _ in range(_ROUNDS):
        if not len(wrong):
            break
        held = np.sort(batch * images + image)
        tries = max(1, min(_PARTNERS, 8 * len(rows)) // len(wrong))
        mine = np.repeat(wrong, tries)
        other = random.integers(0, len(rows), len(mine))
        new = np.stack([batch[mine] * images + image[other], batch[other] * images + image[mine]])
        fits = np.flatnonzero(~_among(new, held).any(axis=0))
        fits = fits[_first(mine[fits])]
        mine, other, new = mine[fits], other[fits], new[:, fits]
        # Of swaps of one round no two may touch one place, or bring an image into one batch.
        alone = (_first(np.stack([mine, other])) & _first(new)).all(axis=0)
        mine, other = mine[alone], other[alone]
        for values in (rows, image):
            values[mine], values[other] = values[other], values[mine]
        if len(mine) * _HOPELESS < len(wrong):
            return False
        wrong = np.setdiff1d(wrong, mine, assume_unique=True)
    return not len(wrong)


def _dealt(owner: Ints, batches: int, random: np.random.Generator) -> Stream:
    """Captions dealt to the batches like cards, image after image.

    An image's captions are consecutive, so they go to consecutive batches, and to different ones
    as long as they are no more than the batches: this succeeds wherever anything does. It is less
    random, since images that are neighbours meet in several batches.
    """
    mixed = random.permutation(len(owner))
    number = random.permutation(int(owner.max(initial=0)) + 1)[owner]
    rows = mixed[np.argsort(number[mixed], kind="stable")]
    return shuffled_batches(rows, np.arange(len(rows)) % batches, batches, random)


def _first(values: Ints) -> NDArray[np.bool_]:
    """Which values occur for the first time, of any shape."""
    first = np.zeros(values.size, np.bool_)
    first[np.unique(values, return_index=True)[1]] = True
    return first.reshape(values.shape)


def _among(values: Ints, ordered: Ints) -> NDArray[np.bool_]:
    """Which values are among others in ascending order."""
    at = np.searchsorted(ordered, values).clip(max=len(ordered) - 1)
    return np.asarray(ordered[at] == values)
