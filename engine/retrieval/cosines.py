"""Cosines of unit vectors without any rounding: the same for a pair wherever it is computed.

Matrix products of other shapes, libraries and devices round differently, so equal items would get
different similarities and ranks would depend on how a gallery is cut. Here components lie on a grid
of 2^-25 (float16 ones do so already; float32 ones move by less than their product's rounding would).
Products of two are then multiples of 2^-50, and their sums, which are below 2 for unit vectors, have
at most 51 bits: float64 holds every one of them exactly, in whatever order they are added.

float64 takes twice as long as float32, and on many GPUs sixty times. So a float32 product comes with
a bound of its error: what stands clear of a bar by more than that is settled, and only the rest is
computed without rounding, pair by pair.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

_STEP = 2.0**-25
#: Unit vectors in low precision are this much longer at most; far below what the sums have room for.
_LONGEST = 1.1
#: Pairs that are compared at once.
_PIECE = 2048


class Cosines:
    """The similarities of images and texts, for `engine.retrieval.ranks`.

    Args:
        images: (n, d) unit vectors, float16, float32 or float64; or (n, k, d), of which the nearest
            to a text counts (the sets of PVSE; the queries of BLIP-2).
        texts: (m, d), or (m, l, d) likewise.
        device: where the products are computed.
        first: the numbers of the first image and the first text, by which they are asked for.

    Attributes:
        error: how far a similarity of `coarse` may be from the one without rounding.

    Raises:
        ValueError: the widths differ, or a vector is longer than 1.
    """

    def __init__(
        self,
        images: NDArray[Any],
        texts: NDArray[Any],
        device: str = "cpu",
        first: tuple[int, int] = (0, 0),
    ) -> None:
        check_widths(images, texts)
        self._images, self._texts = (_on_grid(each, device) for each in (images, texts))
        self._first = first
        # Of a sum of d products (Higham 2002, section 3.1), and roundings of both factors and of a bar.
        self.error = 1.01 * (images.shape[-1] + 4) * 2.0**-24 * _LONGEST**2

    def __call__(self, rows: slice, columns: slice) -> Tensor:
        """(rows, columns), float64: the largest cosine of an image's vectors with a text's."""
        return self._products(rows, columns, torch.float64)

    def coarse(self, rows: slice, columns: slice) -> Tensor:
        """(rows, columns), float32: no farther than `error` from those without rounding."""
        return self._products(rows, columns, torch.float32)

    def exact(self, images: Tensor, texts: Tensor) -> Tensor:
        """(n,), float64: of single pairs, named by (n,) numbers; bit by bit as in a block."""
        here = (each.to(self._images.device) for each in (images - self._first[0], texts - self._first[1]))
        return _paired(self._images, self._texts, *here)

    def _products(self, rows: slice, columns: slice, kind: torch.dtype) -> Tensor:
        images = self._images[rows.start - self._first[0] : rows.stop - self._first[0]].to(kind)
        texts = self._texts[columns.start - self._first[1] : columns.stop - self._first[1]].to(kind)
        products = images.flatten(0, 1) @ texts.flatten(0, 1).T
        if images.shape[1] == texts.shape[1] == 1:
            return products
        sets = products.view(len(images), images.shape[1], len(texts), texts.shape[1])
        return sets.amax(dim=(1, 3))


def check_widths(images: NDArray[Any], texts: NDArray[Any]) -> None:
    """Refuse vectors of two encoders.

    Raises:
        ValueError: they have not equally many components.
    """
    if images.shape[-1] != texts.shape[-1]:
        raise ValueError(
            f"images have {images.shape[-1]} components and texts {texts.shape[-1]}: other encoders"
        )


def paired(images: NDArray[Any], texts: NDArray[Any]) -> Tensor:
    """(n,), float64: the cosine of each image and the text of its row, bit by bit as `Cosines` has it."""
    rows = torch.arange(len(images))
    return _paired(_on_grid(images, "cpu"), _on_grid(texts, "cpu"), rows, rows)


def _paired(images: Tensor, texts: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    found = images.new_empty(len(rows), dtype=torch.float64)
    for start in range(0, len(rows), _PIECE):
        piece = slice(start, start + _PIECE)
        products = images[rows[piece]].double() @ texts[columns[piece]].double().transpose(1, 2)
        found[piece] = products.flatten(1).amax(dim=1)
    return found


def _on_grid(vectors: NDArray[Any], device: str) -> Tensor:
    """(n, k, d), every component a multiple of the step."""
    given = torch.from_numpy(vectors).to(device)
    sets = given[:, None] if given.ndim == 2 else given
    if not torch.is_floating_point(sets):
        raise ValueError(f"vectors are floating-point numbers, not {sets.dtype}")
    if len(sets) and (longest := float(torch.linalg.vector_norm(sets.float(), dim=-1).max())) > _LONGEST:
        raise ValueError(f"a vector has length {longest:.3g}; cosines are of vectors of length 1")
    return sets if sets.dtype == torch.float16 else torch.round(sets / _STEP) * _STEP
