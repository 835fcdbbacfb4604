"""What the rest of Connote knows of an encoder: pictures or texts in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.encoders.own_similarity import COSINE, OwnSimilarity


class Encoder(Protocol):
    """A model that gives pictures, texts or both their places in one space.

    `prepare` may run on many threads at once; the two `embed` methods are called from one thread.

    Attributes:
        width: components of a vector.
        vectors: vectors of one picture; above 1 of sets and samples, and where a caption is compared
            with each and the best one counts (BLIP-2).
        text_vectors: vectors of one text. An encoder of one's own that has one may leave it out.
        similarity: by which pictures and texts are compared. An encoder of one's own that is compared
            by cosines may leave it out.
        images: whether it can embed pictures.
        texts: whether it can embed texts.
        side: pixels to which its preprocessing scales a picture's shorter side; 0 if it does not
            say. A picture may be decoded smaller than it is while its shorter side is no less.
    """

    width: int
    vectors: int
    text_vectors: int
    similarity: OwnSimilarity
    images: bool
    texts: bool
    side: int

    def prepare(self, image: Image.Image) -> Any:
        """What `embed_images` wants of one RGB picture: resized, cropped and normalised."""
        ...

    def embed_images(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors, (n, width), or (n, vectors, width) where `vectors` > 1.

        They are of unit length where `similarity.unit` says so. A picture on which the model fails to
        give a direction (a zero, NaN or infinity) has NaN in every component.
        """
        ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors, (n, width), or (n, text_vectors, width); see `embed_images`. Longer texts are cut."""
        ...

    def longer(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the model reads. One of one's own need not say."""
        ...


@dataclass(frozen=True)
class Card:
    """The attributes of an `Encoder` that decide which tables it fills and what these look like."""

    width: int
    vectors: int
    images: bool
    texts: bool
    side: int
    text_vectors: int = 1
    similarity: OwnSimilarity = COSINE

    @classmethod
    def of(cls, encoder: Encoder) -> Card:
        """Of an encoder that is loaded; one of somebody's own need not tell what is usual."""
        return cls(
            encoder.width,
            encoder.vectors,
            encoder.images,
            encoder.texts,
            encoder.side,
            getattr(encoder, "text_vectors", 1),
            getattr(encoder, "similarity", COSINE),
        )
