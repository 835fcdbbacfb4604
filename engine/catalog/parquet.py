"""Parquet shards: image bytes in a column, whole or in the struct of Hugging Face data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.catalog.columns import Columns, choose_columns
from engine.catalog.extra import captions_of
from engine.catalog.forward import CHUNK, Hasher
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import Shard
from engine.recipe import Images
from engine.storage import Location, digest_of
from engine.storage.fingerprint import DIGEST_BYTES
from engine.storage.location import explained

#: Rows read at a time: with images of some megabytes still a bounded part of a row group.
BATCH_ROWS = 32


def is_parquet(name: str) -> bool:
    """Whether a file name is that of a Parquet file."""
    return name.lower().endswith((".parquet", ".parq"))


def open_parquet(file: pa.NativeFile) -> pq.ParquetFile:
    """Open for streaming: pages are read as they are needed, not a row group at once."""
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=8 * CHUNK)


def scan_parquet(shard: Shard, images: Images) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Read a Parquet file through; `offset` is the row's number and `size` its image's bytes.

    The digest is over the values, so that a file written anew with other compression or row
    groups keeps its parts. A damaged row group gives error rows, a damaged file one.

    Returns:
        The catalog table, the shard's digest, and warnings.

    Raises:
        RecipeError: a named column is missing or has the wrong type.
        StorageError: the file cannot be read.
    """
    place = Location(shard.uri)
    fs, path = place.resolve()
    rows = CatalogRows(shard.name)
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with explained(place), fs.open_input_file(path) as file:
        try:
            parquet = open_parquet(file)
        except pa.ArrowInvalid:
            rows.add(shard.name, shard.uri, None, error="samples lost: Parquet file damaged or cut short")
            rows.note("is no whole Parquet file; restore the file and run again")
            return rows.to_table(), digest_of(shard.state), rows.warnings(shard.name)
        columns = choose_columns(parquet.schema_arrow, images, shard.uri)
        collector = _Collector(shard.uri, columns, rows, hasher)
        for group in range(parquet.num_row_groups):
            collector.take_group(parquet, group, place.is_local)
    for name in columns.left_out:
        rows.note(f"column {name} is left out: bytes and lists of numbers are no metadata")
    table = rows.to_table()
    if images.digest == "index":
        return table, digest_of(shard.state), rows.warnings(shard.name)
    values = table.select(["key", "size", "captions", "extra", "error"]).to_pydict()
    hasher.update(json.dumps(values).encode())
    return table, hasher.hexdigest(), rows.warnings(shard.name)


@dataclass
class _Collector:
    """Turns batches into catalog rows."""

    uri: str
    columns: Columns
    rows: CatalogRows
    hasher: Hasher
    row: int = 0

    def take_group(self, parquet: pq.ParquetFile, group: int, local: bool) -> None:
        """Add a row group; rows that cannot be decoded become error rows."""
        end = self.row + parquet.metadata.row_group(group).num_rows
        try:
            for batch in parquet.iter_batches(
                BATCH_ROWS, row_groups=[group], columns=self.columns.read, use_threads=False
            ):
                self.take(batch)
        except (OSError, pa.ArrowException):
            if not local:  # an object store that fails says the same as damaged data
                raise
            self.rows.note("row group is damaged; restore the file and run again", f"number {group}")
            while self.row < end:
                self._add(None, None, {}, "row group cannot be decoded")

    def take(self, batch: pa.RecordBatch) -> None:
        """Add a batch of rows."""
        images = image_values(batch.column(self.columns.image))
        metadata: Iterator[dict[str, Any]] = iter(
            batch.select([*self.columns.metadata]).to_pylist() if self.columns.metadata else [{}] * len(batch)
        )
        paths = image_paths(batch.column(self.columns.image))
        for image, path, fields in zip(images, paths, metadata, strict=True):
            if image.is_valid:
                self.hasher.update(image.as_buffer())
            size = image.as_buffer().size if image.is_valid else None
            extra = {"path": path, **fields} if path else fields
            key = fields.get(self.columns.key) if self.columns.key else None
            self._add(size, key, extra, None)

    def _add(self, size: int | None, key: Any, extra: dict[str, Any], error: str | None) -> None:
        text = str(self.row) if key is None else str(key)
        own = (self.columns.key, self.columns.caption)
        captions = captions_of(extra.get(self.columns.caption) if self.columns.caption else None)
        extra = {name: value for name, value in extra.items() if name not in own}
        place = None if size is None else (self.row, size)
        self.rows.add(
            text, self.uri, place, captions, extra, error or (None if place else "no image bytes in the row")
        )
        self.row += 1


def image_values(column: pa.Array) -> pa.Array:
    """The encoded images of a column: itself, or the field `bytes` of its structs."""
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def image_paths(column: pa.Array) -> list[str | None]:
    """The file names that Hugging Face's structs keep beside the bytes; None where there is none."""
    if pa.types.is_struct(column.type) and column.type.get_field_index("path") >= 0:
        paths: list[str | None] = pc.struct_field(column, "path").to_pylist()
        return paths
    return [None] * len(column)
