"""The rank of every matching image and text, both ways, without the matrix of their similarities.

METHODS B8. The similarities are asked for block by block, once to learn those of the matching pairs
(only the blocks that hold such pairs), once to count what stands before them. What is held at a
time is a block and a few numbers a pair, and the ranks are those that sorting whole rows and columns
would give. Counts of blocks add up, so blocks may be counted anywhere.

Ties. Of items with equal similarity those that do not match stand first, then those that match,
in the gallery's order. So a model that cannot tell items apart gets no credit for it, whatever
order they are in, and of two matching ones that are equal one is before the other, as in any
sorted list. Only which of equal matching items has which rank depends on the gallery's order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.retrieval.counting import Reached, Sides, equal_later
from engine.retrieval.similarity import BLOCK, Bounded, Similarity, ask, blocks

#: Of a block's scores, one in so many may be in doubt; with more it is computed without rounding.
_DOUBTS = 64


@dataclass(frozen=True)
class Matches:
    """Which texts belong to which images.

    Attributes:
        images: (p,), int64: the image of each matching pair.
        texts: (p,), int64: its text. A pair is there once.
    """

    images: NDArray[np.int64]
    texts: NDArray[np.int64]


@dataclass(frozen=True)
class Ranks:
    """Where each matching pair stands; 1 is the first place.

    Attributes:
        image_to_text: (p,), int64: of the text among all texts, sorted for its image.
        text_to_image: (p,), int64: of the image among all images, sorted for its text.
    """

    image_to_text: NDArray[np.int64]
    text_to_image: NDArray[np.int64]


def ranks(
    similarity: Similarity, matches: Matches, images: int, texts: int, block: tuple[int, int] = BLOCK
) -> Ranks:
    """Rank every matching pair both ways; exactly as sorting would, ties by the rule above.

    Args:
        similarity: of any kind; for sets and distributions the method's own.
        matches: p pairs; an image or a text may be in several, or in none.
        images: how many there are.
        texts: how many there are.
        block: images and texts of one block. The ranks depend on it only where the similarities do.

    Raises:
        ValueError: a pair is out of range or there twice, a block has another shape, or a
            similarity is no number; the message names the image and the text.
    """
    check_matches(matches, images, texts)
    own = matching_scores(similarity, matches, images, texts, block)
    standings = Standings(matches, own)
    standings.count(similarity, slice(0, images), slice(0, texts), block)
    return standings.ranks()


class Standings:
    """What stands before each pair, counted on pieces of the whole, in any order, anywhere.

    Args:
        matches: p pairs.
        own: (p,), of `matching_scores`.

    Attributes:
        ahead: (2, p), int64: how many of the counted texts, and images, reach a pair's own similarity.
    """

    def __init__(self, matches: Matches, own: Tensor) -> None:
        self._matches, self._own = matches, own
        self._of_image, self._of_text = Sides(matches.images), Sides(matches.texts)
        self.ahead = np.zeros((2, len(own)), np.int64)

    def count(
        self, similarity: Similarity, images: slice, texts: slice, block: tuple[int, int] = BLOCK
    ) -> None:
        """Add what these texts are to pairs of these images, and these images to pairs of these texts."""
        for rows, columns in blocks(images, texts, block):
            if isinstance(similarity, Bounded) and self._settle(similarity, rows, columns):
                continue
            scores = ask(similarity, rows, columns)
            for side, found in enumerate(self._both(scores, rows, columns, 0.0)):
                self.ahead[side, found.pairs] += found.counts

    def _settle(self, similarity: Bounded, rows: slice, columns: slice) -> bool:
        """Count a block of the cheaper form; false, and nothing counted, if too much is in doubt."""
        scores = ask(similarity.coarse, rows, columns)
        both = self._both(scores, rows, columns, similarity.error)
        if sum(len(found.doubted) for found in both) > scores.numel() // _DOUBTS:
            return False
        for side, found in enumerate(both):
            pairs = torch.from_numpy(found.doubted)
            there = torch.from_numpy(found.columns + (columns.start, rows.start)[side])
            asking = torch.from_numpy((self._matches.images, self._matches.texts)[side])[pairs]
            exact = similarity.exact(*((asking, there) if side == 0 else (there, asking)))
            reached = (exact >= self._own[pairs.to(self._own.device)]).cpu().numpy()
            self.ahead[side, found.pairs] += found.counts
            np.add.at(self.ahead[side], found.doubted, reached)
        return True

    def _both(self, scores: Tensor, rows: slice, columns: slice, error: float) -> tuple[Reached, Reached]:
        """What texts are to the pairs of a block's images, and images to those of its texts."""
        return (
            self._of_image.count(scores, self._own, rows, error),
            self._of_text.count(scores.T, self._own, columns, error),
        )

    def ranks(self) -> Ranks:
        """Of all pairs, once every image has met every text."""
        scores, matches = self._own.double().cpu().numpy(), self._matches
        return Ranks(
            self.ahead[0] - equal_later(matches.images, matches.texts, scores),
            self.ahead[1] - equal_later(matches.texts, matches.images, scores),
        )


def matching_scores(
    similarity: Similarity, matches: Matches, images: int, texts: int, block: tuple[int, int] = BLOCK
) -> Tensor:
    """(p,), the similarity of each matching pair, out of the same blocks as all others."""
    if isinstance(similarity, Bounded):
        return similarity.exact(torch.from_numpy(matches.images), torch.from_numpy(matches.texts))
    found: Tensor | None = None
    order = np.lexsort((matches.texts // block[1], matches.images // block[0]))
    cells = matches.images[order] // block[0] * (texts // block[1] + 1) + matches.texts[order] // block[1]
    for pairs in np.split(order, np.flatnonzero(np.diff(cells)) + 1):
        if not len(pairs):
            break
        row, column = matches.images[pairs], matches.texts[pairs]
        rows, columns = _around(row[0], block[0], images), _around(column[0], block[1], texts)
        scores = ask(similarity, rows, columns)
        if found is None:
            found = scores.new_empty(len(order))
        at = (torch.from_numpy(row - rows.start), torch.from_numpy(column - columns.start))
        found[torch.from_numpy(pairs).to(found.device)] = scores[tuple(each.to(scores.device) for each in at)]
    return torch.empty(0) if found is None else found


def check_matches(matches: Matches, images: int, texts: int) -> None:
    """Refuse pairs that are out of range, or there twice.

    Raises:
        ValueError: the message names the pair.
    """
    for name, numbers, count in (("image", matches.images, images), ("text", matches.texts, texts)):
        wrong = np.flatnonzero((numbers < 0) | (numbers >= count))
        if len(wrong):
            raise ValueError(
                f"matching pair {wrong[0]} names {name} {numbers[wrong[0]]}, and there are {count} {name}s, "
                "numbered from 0"
            )
    cells = np.sort(matches.images * texts + matches.texts)
    again = cells[1:][cells[1:] == cells[:-1]]
    if len(again):
        image, text = divmod(int(again[0]), texts)
        raise ValueError(f"image {image} and text {text} are a matching pair twice; name each pair once")


def _around(number: np.int64, size: int, count: int) -> slice:
    """The block that a number is in."""
    start = int(number) // size * size
    return slice(start, min(start + size, count))
