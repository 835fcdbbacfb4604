"""Similarities of images and texts, asked for block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

#: Images and texts of one block: 2 MiB of float32 similarities stay in a processor's cache while counted.
BLOCK = (512, 1024)

#: The similarities of some images and some texts, (images, texts), any float dtype; larger is
#: nearer. Asked for the same slices again it gives the same numbers.
Similarity = Callable[[slice, slice], Tensor]


@runtime_checkable
class Bounded(Protocol):
    """A similarity that has a cheaper form, with a bound of its error; see `engine.retrieval.cosines`.

    Attributes:
        error: how far a similarity of `coarse` may be from the one of the blocks.
    """

    error: float

    def coarse(self, rows: slice, columns: slice) -> Tensor:
        """(rows, columns), float32 or float64."""
        ...

    def exact(self, images: Tensor, texts: Tensor) -> Tensor:
        """(n,), of single pairs, as the blocks have them to the last bit."""
        ...


def ask(similarity: Similarity, rows: slice, columns: slice) -> Tensor:
    """A block, float32 or float64.

    Raises:
        ValueError: it has another shape, or a similarity is no number; the message names the pair.
    """
    scores = similarity(rows, columns)
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
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


def blocks(images: slice, texts: slice, block: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """The images and texts of each block of a piece, images in the outer loop."""
    for row in range(images.start, images.stop, block[0]):
        for column in range(texts.start, texts.stop, block[1]):
            yield (
                slice(row, min(row + block[0], images.stop)),
                slice(column, min(column + block[1], texts.stop)),
            )
