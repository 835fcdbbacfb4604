"""All pairs of a set as one gallery, out of what is known of its parts: which text stands where.

Texts that are equal are texts of their own, as the usual evaluations count them; or, where a set says
so, one text with several images (METHODS A8): a metaphor that several images show would otherwise be
a wrong answer to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.categories import Categories
from engine.evaluation.negatives import draw_others
from engine.retrieval.ranks import Matches


@dataclass(frozen=True)
class Head:
    """What all must know of one part.

    Attributes:
        images: how many have a vector.
        without: how many have none.
        owners: (m,), int64, ascending: the image of each caption.
        vectors: (m,), int64: which row of the part's caption vectors each is.
        categories: of the m captions.
        digests: (m,), uint64, of the captions' texts, equal where these are; None if each stands alone.
    """

    images: int
    without: int
    owners: NDArray[np.int64]
    vectors: NDArray[np.int64]
    categories: Categories
    digests: NDArray[np.uint64] | None


@dataclass(frozen=True)
class Gallery:
    """The whole set.

    Attributes:
        matches: p pairs, by image.
        categories: of the p pairs.
        images: (parts + 1,), int64: where each part's images begin.
        texts: (parts + 1,), int64: where each part's texts begin.
        vectors: of each part, which rows of its caption vectors are its texts; one whose caption equals
            another is not.
        others: (images,), int64: a text of another image for each, -1 where there is none.
        without: images without a vector.
    """

    matches: Matches
    categories: Categories
    images: NDArray[np.int64]
    texts: NDArray[np.int64]
    vectors: list[NDArray[np.int64]]
    others: NDArray[np.int64]
    without: int

    def pairs_of(self, rows: slice) -> slice:
        """The pairs whose images are these."""
        start, stop = np.searchsorted(self.matches.images, (rows.start, rows.stop))
        return slice(int(start), int(stop))


def gallery(heads: Sequence[Head], seed: int) -> Gallery:
    """Join the parts.

    Args:
        heads: of all parts, in order.
        seed: draws each image's other text.
    """
    images = np.cumsum([0, *(head.images for head in heads)]).astype(np.int64)
    captions = np.cumsum([0, *(len(head.owners) for head in heads)])
    owners = np.concatenate([head.owners + begin for head, begin in zip(heads, images[:-1], strict=True)])
    kept, numbers = _texts(heads, len(owners))
    texts = np.append(0, np.cumsum(kept))[captions].astype(np.int64)
    # An image may have a caption twice; together they are one pair.
    _, first = np.unique(owners * max(int(texts[-1]), 1) + numbers, return_index=True)
    once = np.sort(first)
    matches = Matches(owners[once], numbers[once])
    categories = Categories.joined([head.categories for head in heads]).some(once)
    parts = [
        head.vectors[kept[start:stop]] for head, (start, stop) in zip(heads, pairwise(captions), strict=True)
    ]
    without = sum(head.without for head in heads)
    others = _others(matches, int(images[-1]), int(texts[-1]), seed)
    return Gallery(matches, categories, images, texts, parts, others, without)


def _texts(heads: Sequence[Head], count: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(m,) twice: which captions are texts, and the number of each caption's text."""
    if any(head.digests is None for head in heads):
        return np.ones(count, np.bool_), np.arange(count)
    digests = np.concatenate([head.digests for head in heads if head.digests is not None])
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    kept = np.zeros(count, np.bool_)
    kept[first] = True
    return kept, (np.cumsum(kept) - 1)[first][which.reshape(-1)]


def _others(matches: Matches, images: int, texts: int, seed: int) -> NDArray[np.int64]:
    """A text of another image for each image, unless it is one of its own, too."""
    drawn = draw_others(matches.images, images, seed)
    found = np.where(drawn >= 0, matches.texts[drawn], -1) if len(matches.texts) else drawn
    own = matches.images * max(texts, 1) + matches.texts
    mine = np.isin(np.arange(images) * max(texts, 1) + found, own)
    return np.where(mine | (drawn < 0), -1, found).astype(np.int64)
