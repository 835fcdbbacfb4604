"""A flat Parquet set that `datasets.load_dataset` opens: one row per caption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.export.choice import ChosenSample, Counts

#: `uri`, `offset` and `size` name the image as the run's catalog does (engine/schema.py); `source`
#: is `mined` or `original`; `distance` is the level's number, 1 (synonym) to 5 (metaphor).
CAPTIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("element", pa.string()),
        pa.field("level", pa.string()),
        pa.field("distance", pa.int32()),
        pa.field("association", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("flag", pa.string()),
        pa.field("description", pa.string()),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("extra", pa.string()),
    ]
)

#: One row per image, with its bytes; joined to the captions by `id`.
IMAGES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
    ]
)

_BUFFERED_ROWS = 20_000
_BUFFERED_BYTES = 64 * 2**20


def write_captions(
    samples: Iterable[ChosenSample], directory: Path, shard_rows: int, counts: Counts
) -> Iterator[ChosenSample]:
    """Write `train-00000-of-00003.parquet`, ... and hand each sample on."""
    with ParquetShards(directory, CAPTIONS, shard_rows) as shards:
        for chosen in samples:
            shards.add(_caption_rows(chosen))
            counts.add(chosen)
            yield chosen


def write_images(samples: Iterable[ChosenSample], directory: Path, shard_images: int) -> None:
    """Write the samples' images, one row each."""
    with ParquetShards(directory, IMAGES, shard_images) as shards:
        for chosen in samples:
            sample = chosen.sample
            image = {"bytes": sample.image, "path": None}
            shards.add([{"id": sample.id, "key": sample.key, "image": image}], len(sample.image or b""))


def _caption_rows(chosen: ChosenSample) -> list[dict[str, Any]]:
    names = ("id", "key", "description", "uri", "offset", "size", "extra")
    shared = {name: getattr(chosen.sample, name) for name in names}
    return [{**shared, **caption.to_dict()} for caption in chosen.captions]


class ParquetShards:
    """Parquet files of at most `shard_rows` rows, named as Hugging Face names the shards of a split.

    The number of shards is in every name, so they get their names when the last one is full.
    """

    def __init__(self, directory: Path, schema: pa.Schema, shard_rows: int) -> None:
        self.directory, self.schema, self.shard_rows = directory, schema, shard_rows
        self.shards: list[Path] = []
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._written = 0  # rows of the last shard
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> ParquetShards:
        self.directory.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._rows or not self.shards):
            self._flush()
        if self._writer is not None:
            self._writer.close()
        if kind is None:
            for index, path in enumerate(self.shards):
                path.rename(self.directory / f"train-{index:05d}-of-{len(self.shards):05d}.parquet")

    def add(self, rows: list[dict[str, Any]], size: int = 0) -> None:
        """Add rows that hold about `size` bytes beside their texts."""
        self._bytes += size
        for row in rows:
            self._rows.append(row)
            if self._written + len(self._rows) >= self.shard_rows:
                self._flush()
        if len(self._rows) >= _BUFFERED_ROWS or self._bytes >= _BUFFERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Write what is buffered as one row group."""
        if self._writer is None:
            self.shards.append(self.directory / f"shard-{len(self.shards):05d}")
            self._writer = pq.ParquetWriter(self.shards[-1], self.schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self.schema))
        self._written += len(self._rows)
        self._rows, self._bytes = [], 0
        if self._written >= self.shard_rows:
            self._writer.close()
            self._writer, self._written = None, 0
