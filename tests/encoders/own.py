"""Encoders such as a user may write."""

from types import SimpleNamespace
from typing import Any

import numpy as np


class Colours:
    """A picture's mean colour as a direction."""

    width, vectors, side = 3, 1, 0
    images, texts = True, False

    def prepare(self, image: Any) -> Any:
        return np.asarray(image, np.float32).mean((0, 1))

    def embed_images(self, prepared: Any) -> Any:
        rows = np.stack(prepared)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_texts(self, texts: Any) -> Any:
        raise AssertionError("asked for texts")


def colours(device: str) -> Colours:
    return Colours()


def broken(device: str) -> Any:
    return SimpleNamespace(width=3)
