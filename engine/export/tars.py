"""WebDataset tars, as open_clip's trainer reads them: an image, a .txt and a .json per sample."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.errors import SampleError
from engine.export.choice import ChosenSample, Counts
from engine.export.names import Names
from engine.export.pictures import trainable


def write_tars(
    samples: Iterable[ChosenSample], directory: Path, shard_images: int, counts: Counts
) -> dict[str, int]:
    """Write the samples to `00000.tar`, `00001.tar`, ...; equal samples, equal bytes.

    open_clip reads one caption per sample, from `.txt`: the drawn one. All of them lie in `.json`
    (a sample per caption would repeat every image up to twenty times; the form `csv` has a row
    per caption and repeats none).

    Returns:
        The samples in each tar, by its name.
    """
    with TarShards(directory, shard_images) as shards:
        for chosen in samples:
            try:
                picture, ending = trainable(chosen.sample.image or b"")
            except SampleError as error:
                counts.left_out[str(error)] += 1
                continue
            record = json.dumps(record_of(chosen), ensure_ascii=False).encode()
            files = {ending: picture, "txt": chosen.drawn.caption.encode(), "json": record}
            shards.add(chosen.sample.key, chosen.sample.id, files)
            counts.add(chosen)
    return shards.sizes


def record_of(chosen: ChosenSample) -> dict[str, Any]:
    """What the `.json` of a sample holds: everything that the run knows of it."""
    sample = chosen.sample
    return {
        "id": sample.id,
        "key": sample.key,
        "uri": sample.uri,
        "caption": chosen.drawn.to_dict(),
        "captions": [caption.to_dict() for caption in chosen.captions],
        "description": sample.description,
        "elements": sample.elements,
        "extra": None if sample.extra is None else json.loads(sample.extra),
    }


class TarShards:
    """Tars of at most `shard_images` samples each, written one after the other."""

    def __init__(self, directory: Path, shard_images: int) -> None:
        self.directory, self.shard_images = directory, shard_images
        self.sizes: dict[str, int] = {}
        self._tar: tarfile.TarFile | None = None
        self._name = ""
        self._names = Names()

    def __enter__(self) -> TarShards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tar is not None:
            self._tar.close()

    def add(self, key: str, sample: str, files: dict[str, bytes]) -> None:
        """Add a sample: its files by ending, side by side as WebDataset groups them."""
        if self._tar is None or self.sizes[self._name] >= self.shard_images:
            self._next()
        assert self._tar is not None
        name = self._names.add(key, sample)
        for ending, data in files.items():
            # Owner, mode and time stay at their defaults, so that equal samples make equal bytes.
            member = tarfile.TarInfo(f"{name}.{ending}")
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self.sizes[self._name] += 1

    def _next(self) -> None:
        if self._tar is not None:
            self._tar.close()
        self._name = f"{len(self.sizes):05d}.tar"
        self.sizes[self._name] = 0
        self._names = Names()
        self._tar = tarfile.open(self.directory / self._name, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
