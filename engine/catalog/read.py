"""A part's rows with their images, read by range from where they lie."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from engine.catalog.images import Loaded, changed, gone, read_files, read_gzip, read_rows, read_tar
from engine.catalog.parts import part_name
from engine.catalog.shard import file_state
from engine.catalog.tables import Catalogued, parse_header
from engine.errors import StorageError
from engine.schema import CATALOG
from engine.storage import Location
from engine.storage.location import explained

#: A part on its way into the stages: the catalog's columns and the encoded images.
PART_TABLE = CATALOG.append(pa.field("image", pa.large_binary()))


def read_part(catalog: Location, start: int, rows: int, part: str | None = None) -> pa.Table:
    """Read the samples of a part and their images.

    Args:
        catalog: the catalog table of the part's shard.
        start: its first row.
        rows: how many rows it has.
        part: its id; if the catalog now gives these rows another, they are not read.

    Returns:
        Schema PART_TABLE; `image` is null where `error` says why.

    Raises:
        StorageError: the shard is missing, cannot be read, or was changed since it was cataloged.
    """
    header, table = read_catalog(catalog, start, rows)
    if part is not None and part != part_name(header, start, rows):
        raise StorageError(
            f"{catalog.uri}: shard {header.name} was cataloged anew since this run was planned; run the same "
            "command again"
        )
    offsets, errors = table["offset"].to_pylist(), table["error"].to_pylist()
    wanted = [i for i, offset in enumerate(offsets) if offset is not None and errors[i] is None]
    images: list[pa.Buffer | None] = [None] * len(table)
    if wanted:
        for index, loaded in zip(wanted, read_images(header, table.take(wanted)), strict=True):
            images[index], errors[index] = loaded
    position = table.schema.get_field_index("error")
    table = table.set_column(position, CATALOG.field("error"), pa.array(errors, pa.string()))
    return table.append_column(PART_TABLE.field("image"), _column(images))


def _column(images: Sequence[pa.Buffer | None]) -> pa.Array:
    """Side by side, as Arrow keeps them: one copy into room that is made once."""
    kind = PART_TABLE.field("image").type
    missing = pa.nulls(1, kind)
    return pa.concat_arrays([missing if image is None else _single(image, kind) for image in images])


def _single(image: pa.Buffer, kind: pa.DataType) -> pa.Array:
    offsets = pa.py_buffer(struct.pack("<qq", 0, image.size))
    return pa.Array.from_buffers(kind, 1, [None, offsets, image])


def read_catalog(catalog: Location, start: int, rows: int) -> tuple[Catalogued, pa.Table]:
    """The header of a catalog table and a slice of its rows (schema CATALOG).

    Raises:
        StorageError: the table cannot be read or has fewer rows.
    """
    fs, path = catalog.resolve()
    with explained(catalog), fs.open_input_file(path) as file:
        parquet = pq.ParquetFile(file)
        header = parse_header(catalog, parquet.schema_arrow.metadata)
        groups, before = row_groups(parquet.metadata, start, start + rows)
        table = parquet.read_row_groups(groups).slice(start - before, rows)
    if len(table) != rows:
        raise StorageError(
            f"{catalog.uri}: has no rows {start} to {start + rows}, so the plan is of another time; run the "
            "same command again to make it anew"
        )
    return header, table.replace_schema_metadata(None).combine_chunks()


def row_groups(metadata: pq.FileMetaData, start: int, end: int) -> tuple[list[int], int]:
    """The row groups that hold rows `start` to `end`, and the number of rows before the first."""
    groups: list[int] = []
    row = before = 0
    for group in range(metadata.num_row_groups):
        after = row + metadata.row_group(group).num_rows
        if row < end and after > start:
            before = before if groups else row
            groups.append(group)
        row = after
    return groups, before


def read_images(header: Catalogued, table: pa.Table) -> Sequence[Loaded]:
    """The images of any rows of one shard.

    Args:
        header: the shard's.
        table: rows that have an image, in ascending order of `offset` where the shard is one file;
            of schema CATALOG, `offset` and `size` are read, and `uri` where images are files of
            their own.

    Raises:
        StorageError: the shard is missing, cannot be read, or was changed since it was cataloged.
    """
    ranges = list(zip(table["offset"].to_pylist(), table["size"].to_pylist(), strict=True))
    if header.format == "files":
        return read_files(header, table["uri"].to_pylist(), [size for _, size in ranges])
    place = Location(header.uri)
    info = place.info()
    if info.type == pafs.FileType.NotFound:
        raise gone(header)
    if not header.state.startswith(f"{file_state(info)} "):
        raise changed(header)
    fs, path = place.resolve()
    with explained(place), fs.open_input_file(path) as file:
        match header.format:
            case "tar":
                return read_tar(file, ranges)
            case "tar.gz":
                return read_gzip(file, ranges)
            case "parquet":
                rows = [row for row, _ in ranges]
                return read_rows(file, header.image_column, rows, place.is_local)
