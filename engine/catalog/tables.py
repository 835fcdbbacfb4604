"""The catalog's tables in the run directory: one per shard, whose presence means it is cataloged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.catalog import sources
from engine.catalog.shard import Format, Shard
from engine.errors import StorageError
from engine.recipe import Images
from engine.storage import Location, digest_of
from engine.storage.location import explained
from engine.storage.many import each_of

#: Rows of a catalog table that are read at once; a part of some hundred rows touches one or two.
GROUP_ROWS = 1024
_METADATA = b"connote"


@dataclass(frozen=True)
class Catalogued:
    """What a catalog table says of its shard.

    Attributes:
        file: name of the table in the catalog's directory.
        name, uri, format, state: the shard's, as it was when it was scanned.
        digest: of the shard's content.
        image_column: for Parquet, the column with the images.
        rows: samples, failed ones included.
        failed: samples that cannot be read.
        warnings: what the scan found remarkable.
    """

    file: str
    name: str
    uri: str
    format: Format
    state: str
    digest: str
    image_column: str
    rows: int
    failed: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Update:
    """The outcome of `CatalogTables.update`.

    Attributes:
        shard: what the catalog now says of the shard.
        scanned: whether it had to be read.
        change: a message where content that had been cataloged is another now, else None.
    """

    shard: Catalogued
    scanned: bool
    change: str | None = None


@dataclass(frozen=True)
class CatalogTables:
    """RUN/catalog: `<shard's name>-<digest of the name>.parquet` for each shard."""

    directory: Location

    def update(self, shard: Shard, images: Images) -> Update:
        """Catalog a shard, unless that is done and the shard is as it was then; see `scan`."""
        before = self.get(shard)
        if before is not None and is_current(before, shard):
            return Update(before, scanned=False)
        return self.scan(shard, images)

    def scan(self, shard: Shard, images: Images) -> Update:
        """Catalog a shard, whatever is known of it.

        Raises:
            RecipeError: the shard is not what the recipe says.
            StorageError: the shard cannot be read, or the catalog cannot be written.
        """
        before = self.get(shard)
        scanned = sources.scan(shard, images)
        failed = len(scanned.table) - scanned.table["error"].null_count
        after = Catalogued(
            file_name(shard.name),
            shard.name,
            shard.uri,
            shard.format,
            shard.state,
            scanned.digest,
            images.image_column if shard.format == "parquet" else "",
            len(scanned.table),
            failed,
            scanned.warnings,
        )
        self.put(after, scanned.table)
        if before is None or before.digest == after.digest:
            return Update(after, scanned=True)
        change = f"shard {shard.name} has changed since it was cataloged: its parts are computed anew"
        return Update(after, scanned=True, change=change)

    def get(self, shard: Shard) -> Catalogued | None:
        """What the catalog says of the shard, current or not; None if it is not cataloged."""
        place = self.directory / file_name(shard.name)
        return read_header(place) if place.exists() else None

    def get_all(self, shards: Iterable[Shard]) -> dict[str, Catalogued]:
        """What the catalog says of those shards that are cataloged, current or not, by name."""
        there = self.directory.names()
        places = [self.directory / file_name(s.name) for s in shards if file_name(s.name) in there]
        return {header.name: header for header in each_of(read_header, places)}

    def gone(self, shards: Iterable[Shard]) -> list[str]:
        """Names of shards that are cataloged but are not among the source's any more."""
        stray = self.directory.names() - {file_name(shard.name) for shard in shards}
        places = [self.directory / name for name in sorted(stray) if name.endswith(".parquet")]
        return sorted(header.name for header in each_of(read_header, places))

    def put(self, header: Catalogued, table: pa.Table) -> None:
        """Write a shard's table: what the header says of it, and its samples (schema CATALOG)."""
        text = json.dumps(asdict(header), ensure_ascii=False)
        table = table.replace_schema_metadata({_METADATA: text.encode()})
        (self.directory / header.file).write_table(table, row_group_size=GROUP_ROWS)


def is_current(header: Catalogued, shard: Shard) -> bool:
    """Whether the shard is as it was when it was cataloged, as far as sizes and times tell."""
    return header.state == shard.state and header.uri == shard.uri


def file_name(shard: str) -> str:
    """The file name of a shard's table: readable, and unique by the digest of the shard's name."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", shard).strip("-.")[-64:].lstrip("-.")
    return f"{readable or 'shard'}-{digest_of(shard)}.parquet"


def read_header(place: Location) -> Catalogued:
    """Read what a catalog table says of its shard.

    Raises:
        StorageError: the file is no catalog table.
    """
    fs, path = place.resolve()
    with explained(place), fs.open_input_file(path) as file:
        return parse_header(place, pq.ParquetFile(file).schema_arrow.metadata)


def parse_header(place: Location, metadata: dict[bytes, bytes] | None) -> Catalogued:
    """Take the header from a Parquet file's metadata; see `read_header`."""
    try:
        values = json.loads((metadata or {})[_METADATA])
        return Catalogued(**{**values, "warnings": tuple(values["warnings"])})
    except (KeyError, ValueError, TypeError) as error:
        raise StorageError(
            f"{place.uri}: is no catalog table; delete it to catalog its shard anew"
        ) from error


def read_sizes(place: Location) -> pa.ChunkedArray:
    """The image sizes (bytes, int64) of a catalog table's rows."""
    fs, path = place.resolve()
    with explained(place), fs.open_input_file(path) as file:
        # So small a column is read before pyarrow's own threads would have been told of it.
        parquet = pq.ParquetFile(file, pre_buffer=not place.is_local)
        return pc.fill_null(parquet.read(["size"], use_threads=False)["size"], 0)
