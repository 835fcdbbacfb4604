"""An encoder for runs that are killed: colours as vectors, slow enough to be caught at work."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np


class SlowColours:
    width, vectors, side = 3, 1, 8
    images = texts = True

    def prepare(self, image: Any) -> Any:
        return np.asarray(image, np.float32).mean((0, 1))

    def embed_images(self, prepared: Any) -> Any:
        time.sleep(float(os.environ.get("SLOW_COLOURS_S", "0")))
        rows = np.stack(prepared)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_texts(self, texts: Any) -> Any:
        rows = np.array([[len(text), text.count(" ") + 1, 1] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make(device: str) -> SlowColours:
    return SlowColours()
