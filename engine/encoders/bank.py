"""The encoders of one pool actor: loaded when first asked for, computing one batch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.device import device_of
from engine.encoders import EncoderName, load_encoder
from engine.encoders.card import read_card
from engine.encoders.protocol import Card, Encoder
from engine.encoders.vectors import checked
from engine.errors import EngineDied, RecipeError
from engine.generation.meter import Meter
from engine.priority import give_way
from engine.recipe import Embed


class EncoderBank:
    """Embeds batches of pictures and texts. Pictures are prepared on threads while a model computes.

    Args:
        settings: the recipe's section; its encoders share the actor's processors or GPU.

    Raises:
        RecipeError: a GPU is asked for where there is none.
    """

    def __init__(self, settings: Embed) -> None:
        self._device = device_of(settings.gpus, "embed.gpus")
        self.meter = Meter()
        self.settings = settings
        self._names = [EncoderName.parse(text) for text in settings.encoders]
        self._loaded: dict[EncoderName, Encoder] = {}
        beside = None if settings.gpus else give_way
        self._prepare = ThreadPoolExecutor(max(2, round(settings.cpus)), "prepare", beside)
        # One thread for all models: two batches at once would only take turns at the same device.
        self._compute = ThreadPoolExecutor(1, "encode")
        if not settings.gpus:
            self._compute.submit(torch.set_num_threads, max(1, round(settings.cpus)))

    async def probe(self) -> None:
        """Load every encoder, so that a death in loading is not taken for a death of some image."""
        for name in self._names:
            await self._run(self._encoder, name)

    async def embed_images(self, name: EncoderName, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(n, width) or (n, vectors, width); see `Encoder.embed_images`.

        Raises:
            RecipeError: there is no such encoder, the batch does not fit its device, or what it gives
                is not what it says.
            EngineDied: the device failed, and with it this process.
        """
        with self.meter.working(len(pictures)):
            encoder = await self._ready(name)
            loop = asyncio.get_running_loop()
            prepared = await asyncio.gather(
                *(loop.run_in_executor(self._prepare, encoder.prepare, picture) for picture in pictures)
            )
            vectors = await self._run(encoder.embed_images, prepared)
        self.meter.count(requests=len(pictures))
        return checked(name.text, vectors, len(pictures), Card.of(encoder), of_texts=False)

    async def embed_texts(self, name: EncoderName, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, width) or (n, text_vectors, width); see `Encoder.embed_texts` and `embed_images`."""
        with self.meter.working(len(texts)):
            encoder = await self._ready(name)
            vectors = await self._run(encoder.embed_texts, texts)
        self.meter.count(requests=len(texts))
        return checked(name.text, vectors, len(texts), Card.of(encoder), of_texts=True)

    async def longer(self, name: EncoderName, texts: Sequence[str]) -> int:
        """How many of the texts the encoder cuts; 0 where it does not say. See `Encoder.longer`."""
        encoder = await self._ready(name)
        count = getattr(encoder, "longer", None)
        return await self._run(count, texts) if count and texts else 0

    async def _ready(self, name: EncoderName) -> Encoder:
        """The encoder; not behind a batch that is computed, beside which others are to be prepared."""
        if name in self._loaded:
            return self._loaded[name]
        encoder: Encoder = await self._run(self._encoder, name)
        return encoder

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._compute, function, *arguments)
        except torch.OutOfMemoryError as error:
            raise RecipeError(
                f"embed.batch: {self.settings.batch} do not fit the GPU's memory; lower it, or give each "
                "actor a larger share with embed.gpus"
            ) from error
        except torch.AcceleratorError as error:
            # After such an error nothing more can be computed on the device by this process.
            raise EngineDied(f"the GPU failed: {str(error).splitlines()[0]}") from error

    def _encoder(self, name: EncoderName) -> Encoder:
        if name not in self._loaded:
            encoder, card = load_encoder(name, self._device, self.settings.compute), read_card(name)
            for found, told in zip(_shapes(Card.of(encoder)), _shapes(card), strict=True):
                if found != told:
                    raise RecipeError(
                        f"encoder '{name.text}': its weights give {found} components, its configuration says "
                        f"{told}"
                    )
            self._loaded[name] = encoder
        return self._loaded[name]


def _shapes(card: Card) -> tuple[str, str]:
    """Of an image and of a text."""
    return f"{card.vectors} x {card.width}", f"{card.text_vectors} x {card.width}"
