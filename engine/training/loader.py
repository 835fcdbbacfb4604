"""Batches that are read, decoded and tokenised on threads ahead of the step."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.generation.protocol import derive_seed
from engine.recipe.finetune import Finetune
from engine.training.batches import Batches
from engine.training.method import Targets
from engine.training.order import batch_count, epoch_batches
from engine.training.pairs_file import Pairs
from engine.training.pictures import Decoder, Pictures, Reads, Sees
from engine.training.step import LocalBatch
from engine.training.world import World

#: Batches that are begun while one is trained on: enough to level out slow images; fewer where their
#: pixels would take more than so many bytes, since a batch of 32,768 images has 20 GB.
AHEAD, AHEAD_BYTES = 4, 8 * 2**30

_Ints = NDArray[np.int64]
_T = TypeVar("_T")


@dataclass
class _Begun:
    """A batch on its way: `captions` are those of all workers."""

    captions: _Ints
    weight: float
    seed: int
    pictures: Pictures
    tokens: Future[Tensor]


class Loader:
    """Gives one worker its rows of every batch.

    Args:
        pairs: all of the run's.
        reader: of their images.
        backbone: prepares images and tokenises captions.
        settings: the recipe's section.
        world: the workers.
        seed: the run's.
        tell: is told, once, the id of an image that cannot be used and the reason.
        max_pixels: larger images are refused (images.max_pixels).
    """

    def __init__(
        self,
        pairs: Pairs,
        reader: Reads,
        backbone: Sees,
        settings: Finetune,
        world: World,
        seed: int,
        tell: Callable[[str, str], None] = lambda id, reason: None,
        max_pixels: int = 100_000_000,
    ) -> None:
        self._pairs, self._reader, self._backbone, self._settings = pairs, reader, backbone, settings
        self._world, self._seed, self._tell, self._max_pixels = world, seed, tell, max_pixels
        self._training = pairs.training()
        self._told, self._tokenizing = set[int](), threading.Lock()
        self._waited = 0.0

    def batches_of(self, epoch: int) -> int:
        """How many batches an epoch has; all have as many."""
        del epoch
        return batch_count(len(self._training), self._settings.order, self._settings.batch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[LocalBatch]:
        """This worker's rows of the batches of an epoch, from batch `start` on.

        Threads run until the iterator ends or is closed; at most `AHEAD` batches, of at
        most `AHEAD_BYTES`, are begun beyond the one that was yielded last; one, if it is larger.

        Raises:
            RecipeError: see `epoch_batches`.
            StorageError: a shard is missing, cannot be read, or has changed.
        """
        now = time.monotonic()
        order = self._order(epoch)
        self._waited += time.monotonic() - now
        with self._decoder() as decoder:
            begun = (self._begin(decoder, order, epoch, index) for index in range(start, len(order)))
            for batch in _ahead(begun, self._depth()):
                now = time.monotonic()
                tokens = batch.tokens.result()
                self._wait(batch.pictures)
                self._waited += time.monotonic() - now
                local = self._local(batch, tokens)
                # Of a large batch there must be no third: when the next is begun the last one is gone.
                del batch
                yield local
                del local

    def prepared_images(self, rows: _Ints) -> Iterator[tuple[Tensor, Tensor]]:
        """Images of `pairs.images` in blocks of `finetune.micro_batch`, (b, 3, height, width), float32.

        Beside each block which of them can be used, (b,), bool; the others are zeros. Closing, and errors,
        as with `batches`.
        """
        size = self._settings.micro_batch
        with self._decoder() as decoder:
            blocks = (decoder.begin(rows[first : first + size]) for first in range(0, len(rows), size))
            for pictures in _ahead(blocks, AHEAD):
                self._wait(pictures)
                yield pictures.pixels, pictures.good

    def waited(self) -> float:
        """The seconds in which `batches` let its caller wait, since this was last asked."""
        seconds, self._waited = self._waited, 0.0
        return seconds

    def _depth(self) -> int:
        """Batches to begin ahead."""
        rows = -(-self._settings.batch // self._world.size)
        return max(1, min(AHEAD, AHEAD_BYTES // (rows * 3 * self._backbone.side**2 * 4)))

    def _order(self, epoch: int) -> Batches:
        image, settings = self._pairs.image[self._training], self._settings
        level = self._pairs.level[self._training]
        return epoch_batches(image, level, settings.order, settings.batch, settings.shares, self._seed, epoch)

    def _decoder(self) -> Decoder:
        pinned = self._world.device.type == "cuda"
        threads = self._settings.decode_threads
        return Decoder(self._reader, self._backbone, self._max_pixels, threads, pinned)

    def _begin(self, decoder: Decoder, order: Batches, epoch: int, index: int) -> _Begun:
        rows, weight = order[index]
        captions = self._training[rows]
        own = captions[self._world.rows(len(captions))]
        tokens = decoder.submit(self._tokenize, own)
        pictures = decoder.begin(self._pairs.image[own].astype(np.int64))
        seed = derive_seed(self._seed, "finetune", "step", epoch, index)
        return _Begun(captions, weight, seed, pictures, tokens)

    def _tokenize(self, captions: _Ints) -> Tensor:
        texts: Sequence[str] = self._pairs.captions.take(captions).to_pylist()
        # Tokenisers of transformers must not be called by two threads; and not all take no text.
        with self._tokenizing:
            return self._backbone.tokenize(texts or [""])[: len(texts)]

    def _wait(self, pictures: Pictures) -> None:
        pictures.wait()
        for row, reason in sorted(pictures.reasons.items()):
            if row not in self._told:
                self._told.add(row)
                self._tell(self._pairs.images["id"][row].as_py(), reason)

    def _local(self, batch: _Begun, tokens: Tensor) -> LocalBatch:
        pairs, captions = self._pairs, batch.captions
        image = pairs.image[captions]
        targets = Targets(
            torch.from_numpy(image.astype(np.int64)),
            torch.from_numpy(pairs.level[captions].astype(np.int64)),
            torch.from_numpy(pairs.weight[captions]),
            batch.seed,
        )
        return LocalBatch(
            batch.pictures.pixels,
            tokens,
            batch.pictures.good,
            self._world.rows(len(captions)),
            targets,
            batch.weight,
            tuple(pairs.images["id"].take(image).to_pylist()),
        )


def _ahead(begun: Iterator[_T], count: int) -> Iterator[_T]:
    """The same, each with the next `count` begun, at least 1."""
    waiting = deque(islice(begun, count))
    while waiting:
        waiting.extend(islice(begun, 1))
        yield waiting.popleft()
