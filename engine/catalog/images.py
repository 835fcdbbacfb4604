"""Encoded images out of each kind of shard."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from engine.catalog.files import file_failure, threads_for
from engine.catalog.forward import ForwardReader, chunks_of, gunzipped
from engine.catalog.parquet import BATCH_ROWS, image_values, open_parquet
from engine.catalog.ranges import read_ranges
from engine.catalog.shard import newest_of
from engine.catalog.tables import Catalogued
from engine.errors import StorageError
from engine.storage import Location

#: An image's encoded bytes, or None and the reason.
Loaded = tuple[pa.Buffer | None, str | None]

_CUT = (None, "image cut short")


def read_tar(file: pa.NativeFile, ranges: Sequence[tuple[int, int]]) -> list[Loaded]:
    """Images at (offset, size) ranges of a tar, in a few coalesced reads."""
    pieces = read_ranges(file, ranges)
    return [
        (piece, None) if piece.size == size else _CUT for piece, (_, size) in zip(pieces, ranges, strict=True)
    ]


def read_gzip(file: pa.NativeFile, ranges: Sequence[tuple[int, int]]) -> list[Loaded]:
    """Images at ranges of the decompressed stream, which is read from its start to the last one."""
    reader = ForwardReader(gunzipped(chunks_of(file)))
    loaded: list[Loaded] = []
    for offset, size in ranges:
        reader.seek(offset)
        piece = reader.read(size)
        loaded.append((pa.py_buffer(piece), None) if len(piece) == size else _CUT)
    return loaded


def read_rows(file: pa.NativeFile, column: str, rows: Sequence[int], local: bool) -> list[Loaded]:
    """Images of the given rows (ascending) of a Parquet file; reads their row groups' image column."""
    parquet = open_parquet(file)
    struct = pa.types.is_struct(parquet.schema_arrow.field(column).type)
    leaf = f"{column}.bytes" if struct else column
    found: dict[int, Loaded] = {}
    wanted = set(rows)
    begin = 0
    for group in range(parquet.num_row_groups):
        end = begin + parquet.metadata.row_group(group).num_rows
        inside = sorted(row for row in wanted if begin <= row < end)
        if inside:
            try:
                found |= _from_group(parquet, group, leaf, begin, inside)
            except (OSError, pa.ArrowException):
                if not local:
                    raise
        begin = end
    return [found.get(row, (None, "row group cannot be decoded")) for row in rows]


def _from_group(
    parquet: pq.ParquetFile, group: int, leaf: str, begin: int, rows: Sequence[int]
) -> dict[int, Loaded]:
    """The images of some rows of a row group, which is decoded a batch at a time."""
    found: dict[int, Loaded] = {}
    waiting = list(rows)
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=[leaf], use_threads=False):
        end = begin + len(batch)
        while waiting and waiting[0] < end:
            row = waiting.pop(0)
            value = image_values(batch.column(0))[row - begin].as_py()
            # A copy, so that one image does not hold the whole batch.
            found[row] = (None if value is None else pa.py_buffer(value), None)
        if not waiting:
            break
        begin = end
    return found


def read_files(header: Catalogued, uris: Sequence[str], sizes: Sequence[int]) -> list[Loaded]:
    """Images that are files of their own, several at a time.

    Raises:
        StorageError: their root is gone, a file has changed, or the store fails.
    """
    root = Location(header.uri)
    with ThreadPoolExecutor(threads_for(root)) as threads:
        loaded = list(threads.map(lambda uri, size: _read_file(header, Location(uri), size), uris, sizes))
    if all(image is None for image, _ in loaded) and not root.exists():
        raise gone(header)
    return loaded


def _read_file(header: Catalogued, place: Location, size: int) -> Loaded:
    try:
        info = place.info()
        if info.type == pafs.FileType.NotFound:
            return None, "image file is missing"
        if info.size != size or (info.mtime_ns or 0) > newest_of(header.state):
            raise changed(header)
        return place.read_buffer(), None
    except StorageError as error:
        if error.__cause__ is not None and (reason := file_failure(place, error)):
            return None, reason
        raise


def changed(header: Catalogued) -> StorageError:
    """The message for a shard that is not what the catalog says."""
    return StorageError(
        f"{header.uri}: shard {header.name} has changed since it was cataloged; run the same command again "
        "to catalog it anew"
    )


def gone(header: Catalogued) -> StorageError:
    """The message for a shard that is no longer there."""
    return StorageError(f"{header.uri}: shard {header.name} is gone; restore it, or correct images.uri")
