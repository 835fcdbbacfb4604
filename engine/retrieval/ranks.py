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

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Images and texts of one block: 2 MiB of float32 similarities stay in a processor's cache while counted.
BLOCK = (512, 1024)

#: The similarities of some images and some texts, (images, texts), any float dtype; larger is
#: nearer. Asked for the same slices again it gives the same numbers.
Similarity = Callable[[slice, slice], Tensor]


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
    _check(matches, images, texts)
    own = matching_scores(similarity, matches, images, texts, block)
    ahead = [np.zeros(len(own), np.int64), np.zeros(len(own), np.int64)]
    of_image, of_text = _Sides(matches.images), _Sides(matches.texts)
    for rows, columns in _blocks(images, texts, block):
        scores = _ask(similarity, rows, columns)
        of_image.count(scores, own, rows, ahead[0])
        of_text.count(scores.T, own, columns, ahead[1])
    local = own.double().cpu().numpy()
    return Ranks(
        ahead[0] - _equal_later(matches.images, matches.texts, local),
        ahead[1] - _equal_later(matches.texts, matches.images, local),
    )


def matching_scores(
    similarity: Similarity, matches: Matches, images: int, texts: int, block: tuple[int, int] = BLOCK
) -> Tensor:
    """(p,), the similarity of each matching pair, out of the same blocks as all others."""
    found: Tensor | None = None
    order = np.lexsort((matches.texts // block[1], matches.images // block[0]))
    cells = matches.images[order] // block[0] * (texts // block[1] + 1) + matches.texts[order] // block[1]
    for pairs in np.split(order, np.flatnonzero(np.diff(cells)) + 1):
        if not len(pairs):
            break
        row, column = matches.images[pairs], matches.texts[pairs]
        rows, columns = _around(row[0], block[0], images), _around(column[0], block[1], texts)
        scores = _ask(similarity, rows, columns)
        if found is None:
            found = scores.new_empty(len(order))
        at = (torch.from_numpy(row - rows.start), torch.from_numpy(column - columns.start))
        found[torch.from_numpy(pairs).to(found.device)] = scores[tuple(each.to(scores.device) for each in at)]
    return torch.empty(0) if found is None else found


class _Sides:
    """The pairs in the order of one side's numbers, cut into waves: a number is in each once at most.

    Comparing a wave with a block is one operation on all of its rows.
    """

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        turn = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        self._waves = [order[turn == wave] for wave in range(int(turn.max(initial=-1)) + 1)]
        self._numbers = [numbers[wave] for wave in self._waves]

    def count(self, scores: Tensor, own: Tensor, rows: slice, ahead: NDArray[np.int64]) -> None:
        """Add to `ahead` how many columns of a block reach each pair's own similarity.

        Args:
            scores: (r, c), rows of this side's numbers `rows`.
            own: (p,), the pairs' similarities.
            rows: which of this side's numbers the block holds.
            ahead: (p,), is changed.
        """
        for wave, numbers in zip(self._waves, self._numbers, strict=True):
            start, stop = np.searchsorted(numbers, (rows.start, rows.stop))
            pairs, at = wave[start:stop], numbers[start:stop] - rows.start
            if not len(pairs):
                continue
            # Rows are picked only where the wave leaves some out: a copy costs more than comparing.
            some = scores if len(at) == len(scores) else scores[torch.from_numpy(at).to(scores.device)]
            bar = own[torch.from_numpy(pairs).to(own.device)]
            ahead[pairs] += (some >= bar[:, None]).sum(dim=1).cpu().numpy()


def _equal_later(
    queries: NDArray[np.int64], items: NDArray[np.int64], own: NDArray[np.floating]
) -> NDArray[np.int64]:
    """(p,): how many other matches of the same query are equal and later in the gallery.

    All that is equal has been counted as ahead; of these the later matches are not.
    """
    order = np.lexsort((items, own, queries))
    query, score = queries[order], own[order]
    differs = (query[1:] != query[:-1]) | (score[1:] != score[:-1])
    ends = np.append(np.flatnonzero(differs) + 1, len(order))
    later = np.empty(len(order), np.int64)
    later[order] = np.repeat(ends, np.diff(ends, prepend=0)) - 1 - np.arange(len(order))
    return later


def _check(matches: Matches, images: int, texts: int) -> None:
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


def _ask(similarity: Similarity, rows: slice, columns: slice) -> Tensor:
    scores = similarity(rows, columns)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    if tuple(scores.shape) != shape:
        raise ValueError(f"the similarities of a block of {shape} images and texts are {tuple(scores.shape)}")
    # A sum is not a number where one of its terms is not; opposite infinities make it so as well.
    if torch.isnan(scores.sum()) and (wrong := torch.isnan(scores).nonzero()).numel():
        row, column = wrong[0].tolist()
        raise ValueError(
            f"the similarity of image {rows.start + row} and text {columns.start + column} is no number"
        )
    return scores


def _around(number: np.int64, size: int, count: int) -> slice:
    """The block that a number is in."""
    start = int(number) // size * size
    return slice(start, min(start + size, count))


def _blocks(images: int, texts: int, block: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for row in range(0, images, block[0]):
        for column in range(0, texts, block[1]):
            yield (
                slice(row, min(row + block[0], images)),
                slice(column, min(column + block[1], texts)),
            )
