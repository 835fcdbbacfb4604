"""Inputs for the benchmarks: image sets and recipes, made where the benchmark runs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

from engine.recipe import Recipe


def image_tars(directory: Path, samples: int, per_shard: int) -> None:
    """Write WebDataset tars of small PNGs, each of its own colour."""
    directory.mkdir(parents=True)
    for start in range(0, samples, per_shard):
        with tarfile.open(directory / f"{start:08d}.tar", "w") as tar:
            for index in range(start, min(start + per_shard, samples)):
                _add(tar, f"{index:08d}.png", _png(index))
                _add(tar, f"{index:08d}.txt", b"a field of one colour")


def _png(index: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 64), (index % 256, index // 256 % 256, 90)).save(sink, "PNG")
    return sink.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def scripted_recipe(images: Path, out: Path, part_rows: int = 256, **generator: Any) -> Recipe:
    """All three stages with a scripted generator."""
    return Recipe.model_validate(
        {
            "images": {"source": "webdataset", "uri": str(images)},
            "run": {"out": str(out), "part_rows": part_rows},
            "generators": {"script": {"backend": "scripted", **generator}},
            "describe": {"generator": "script"},
            "associate": {"generator": "script"},
            "caption": {"generator": "script"},
        }
    )
