"""Encoders that see colours more or less well, and pictures whose captions name their colours."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SAMPLES, PART_ROWS = 36, 5


def write_pictures(path: Path) -> Path:
    """A tar of plain pictures; the third is broken, the sixth has no caption, the others one to three.

    A caption names the colour, and how vague it is: the vaguer, the less its direction is the colour's.
    """
    rng = np.random.default_rng(0)
    path.mkdir()
    with tarfile.open(path / "0.tar", "w") as tar:
        for index in range(SAMPLES):
            colour = rng.integers(0, 256, 3).tolist()
            sink = io.BytesIO()
            Image.new("RGB", (8, 8), tuple(colour)).save(sink, "PNG")
            captions = [" ".join(map(str, [*colour, vague])) for vague in range(0, 60 * (1 + index % 3), 60)]
            add(tar, f"{index:03d}.png", b"broken" if index == 2 else sink.getvalue())
            add(tar, f"{index:03d}.json", json.dumps({"captions": [] if index == 5 else captions}).encode())
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


class Seer:
    """Its blindness is noise on what it makes of captions."""

    width, vectors, side = 3, 1, 8
    images = texts = True

    def __init__(self, blindness: float) -> None:
        self._blindness = blindness

    def prepare(self, image: Any) -> Any:
        return np.asarray(image, np.float32).mean((0, 1)) - 127.3

    def embed_images(self, prepared: Any) -> Any:
        rows = np.stack(prepared)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_texts(self, texts: Any) -> Any:
        return np.stack([self._text(text) for text in texts]).astype(np.float32)

    def _text(self, text: str) -> Any:
        *colour, vague = map(float, text.split())
        noise = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(3)
        row = np.array(colour) - 127.3 + self._blindness * (10 + vague) * noise
        return row / np.linalg.norm(row)


class Doubter(Seer):
    """Sees every picture in two ways, the second a guess."""

    vectors = 2

    def embed_images(self, prepared: Any) -> Any:
        first = super().embed_images(prepared)
        return np.stack([first, np.roll(first, 1, axis=1)], axis=1)


def keen(device: str) -> Seer:
    return Seer(0.05)


def dim(device: str) -> Seer:
    return Seer(0.5)


def blind(device: str) -> Seer:
    return Seer(2.0)


def doubting(device: str) -> Doubter:
    return Doubter(0.5)
