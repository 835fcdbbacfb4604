"""Images on their way into a batch: read by one thread, decoded and prepared by several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.decoding import Look
from engine.errors import SampleError

#: An image may be so many times as long as wide: scaled to a model's side, a line of pixels would
#: take gigabytes.
_LONGEST = 64


class Sees(Protocol):
    """What is needed of a backbone; see `Backbone`."""

    side: int

    def prepare(self, picture: Image.Image, /) -> Tensor:
        """(3, height, width), float32."""

    def tokenize(self, texts: Sequence[str], /) -> Tensor:
        """(b, context length), int64."""


class Reads(Protocol):
    """What is needed of an image reader; see `ImageReader`."""

    def read(self, rows: NDArray[np.int64]) -> list[pa.Buffer | str]:
        """Encoded images, or the reason why not."""


@dataclass
class Pictures:
    """b images, whole once `wait` has returned.

    Attributes:
        pixels: (b, 3, height, width), float32; zeros of those that cannot be had.
        good: (b,), bool: which could be.
        reasons: why not, by the image's row.
        work: what is still to be done.
    """

    pixels: Tensor
    good: Tensor
    reasons: dict[int, str] = field(default_factory=dict)
    work: list[Future[Any]] = field(default_factory=list)

    def wait(self) -> None:
        """Wait until all is done; raises what the reader raised."""
        for future in self.work:
            future.result()
        self.work.clear()


class Decoder:
    """Threads that are there while this is open.

    Args:
        reader: of the images.
        backbone: prepares them.
        max_pixels: larger images are refused.
        threads: that decode.
        pinned: whether pixels lie in memory that a GPU reads directly.
    """

    def __init__(self, reader: Reads, backbone: Sees, max_pixels: int, threads: int, pinned: bool) -> None:
        self._reader, self._backbone, self._pinned = reader, backbone, pinned
        self._look = Look(max_pixels, at_least=backbone.side)
        self._shape = backbone.prepare(Image.new("RGB", (backbone.side, backbone.side))).shape
        self._reading = ThreadPoolExecutor(1, "read")
        # One core for each: torch would use several for a picture, beside those of the step.
        self._decoding = ThreadPoolExecutor(threads, "decode", torch.set_num_threads, (1,))

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.shutdown(wait=False, cancel_futures=True)
        self._decoding.shutdown(cancel_futures=True)
        self._reading.shutdown()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have one of the decoding threads call a function."""
        return self._decoding.submit(function, *arguments)

    def begin(self, rows: NDArray[np.int64]) -> Pictures:
        """Begin with images; one that is there several times is read and decoded once."""
        pixels = torch.zeros((len(rows), *self._shape), pin_memory=self._pinned)
        pictures = Pictures(pixels, torch.zeros(len(rows), dtype=torch.bool))
        unique, inverse = np.unique(rows, return_inverse=True)
        places = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
        read = self._reading.submit(self._reader.read, unique)
        # Threads take work in the order it comes in, so none waits for images while others are there.
        for index, row in enumerate(unique.tolist()):
            pictures.work.append(self.submit(self._fill, pictures, read, index, row, places[index]))
        return pictures

    def _fill(
        self, pictures: Pictures, read: Future[list[pa.Buffer | str]], index: int, row: int, places: Any
    ) -> None:
        data = read.result()[index]
        try:
            prepared = self._prepare(data)
        except SampleError as error:
            pictures.reasons[row] = str(error)
            return
        pictures.pixels.numpy()[places] = prepared.numpy()
        pictures.good.numpy()[places] = True

    def _prepare(self, data: pa.Buffer | str) -> Tensor:
        if isinstance(data, str):
            raise SampleError(data)
        picture = self._look.picture(data)
        if max(picture.size) > _LONGEST * min(picture.size):
            raise SampleError(f"more than {_LONGEST} times as long as wide")
        return self._backbone.prepare(picture)
