"""Image files with their captions, listed in tab- or comma-separated tables that were made elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.fs as pafs

from engine.catalog.anywhere import digest_images, locate_image, look_up
from engine.catalog.caption_table import CaptionTable, merged
from engine.catalog.delimited import is_table
from engine.catalog.extra import captions_of
from engine.catalog.files import chunked, digest_files, without_ending
from engine.catalog.listing import FoundFile, find_files
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import ImageFile, Shard, files_state, scan_settings
from engine.errors import RecipeError
from engine.recipe import Images
from engine.storage import Location
from engine.storage.fingerprint import DIGEST_BYTES


@dataclass(frozen=True)
class ListedImage(ImageFile):
    """An image file with the rows that name it; its path is a URI where it lies outside the root.

    Attributes:
        table: URI of the table.
        rows: first byte and size of each row.
        text: digest of the rows' bytes.
    """

    table: str = ""
    rows: tuple[tuple[int, int], ...] = ()
    text: str = ""


def discover_tsv(uri: str, images: Images, run: Location | None = None) -> list[Shard]:
    """Cut the images that tables list into shards, in the order in which they are first named.

    Tables are read through. Where the rows of each image stand lies in memory (about 1 GB a
    million images); their captions do not.

    Args:
        uri: a table, a directory of tables, or a pattern.
        images: names the columns.
        run: the run's directory, whose own tables are passed over.

    Raises:
        RecipeError: a table is empty or damaged, lacks a column, or lists files on the web.
        StorageError: the filesystem fails.
    """
    inside = f"{run.uri.rstrip('/')}/" if run else "\0"
    found = [each for each in find_files(uri, is_table) if not each.uri.startswith(inside)]
    if wrong := [each.uri for each in found if not is_table(each.path)]:
        raise RecipeError(
            f"images.uri: {wrong[0]}: is it separated by tabs or by commas? Name it .tsv or .csv"
        )
    return [shard for each in found for shard in _cut(each, images)]


def scan_tsv(shard: Shard, images: Images) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Read a shard's images and its rows of the table.

    Keys are paths without ending, unless the recipe names a column. What other columns hold is
    extra, as `merged` has it.

    Returns:
        The catalog table, the shard's digest (of its own images and rows only), and warnings.

    Raises:
        RecipeError: the table was changed meanwhile.
        StorageError: the store fails; a single image file that does becomes an error row.
    """
    files = [file for file in shard.files if isinstance(file, ListedImage)]
    table = CaptionTable.open(Location(files[0].table), shard.uri, images)
    # Tables of one directory may list the same image: its path alone is no identity.
    rows = CatalogRows(shard.name.rpartition("/")[0])
    contents = digest_images(shard, images.digest == "content")
    values = table.values([(file.path, file.rows) for file in files])
    for file, found, all_fields in zip(files, contents, values, strict=True):
        fields = _told_once(all_fields, len(table.names), file.path, rows)
        told = [dict(zip(table.names, each, strict=False)) for each in fields]
        key = told[0].get(images.key_column) if images.key_column else None
        captions = captions_of([row.get(images.caption_column or "") for row in told])
        own = (images.image_column, images.caption_column, images.key_column)
        extra = {name: value for name, value in merged(told).items() if name not in own}
        error = found.error if file.path else "the row names no image file"
        place = None if error else (0, found.file.size)
        uri = locate_image(shard.uri, file.path).uri if file.path else file.table
        rows.add(key or without_ending(file.path), uri, place, captions, extra, error, identity=file.path)
    result = rows.to_table()
    texts = json.dumps(result.select(["key", "captions", "extra"]).to_pydict())
    return result, digest_files(contents, texts), rows.warnings(shard.name)


@dataclass
class _Named:
    """What a table says of an image so far."""

    rows: list[tuple[int, int]] = field(default_factory=list)
    text: bytes = b""

    def add(self, start: int, data: bytes) -> None:
        self.rows.append((start, len(data)))
        self.text = hashlib.blake2b(self.text + data, digest_size=DIGEST_BYTES).digest()


def _cut(found: FoundFile, images: Images) -> list[Shard]:
    table = CaptionTable.open(Location(found.uri), found.root, images)
    named: dict[str | int, _Named] = {}
    for row in table.rows():
        # A row without an image is a sample of its own.
        named.setdefault(row.path or row.start, _Named()).add(row.start, row.data)
    paths = [path if isinstance(path, str) else "" for path in named]
    infos = look_up(found.root, paths)
    files = [
        _listed(path, infos.get(path), found.uri, each)
        for path, each in zip(paths, named.values(), strict=True)
    ]
    shards = []
    for index, chunk in enumerate(chunked(files, images.shard_images)):
        texts = (file.text for file in chunk if isinstance(file, ListedImage))
        state = files_state(chunk, scan_settings(images), table.header, *texts)
        shards.append(Shard(f"{found.path}/{index:06d}", found.root, "files", state, chunk))
    return shards


def _listed(path: str, info: pafs.FileInfo | None, table: str, named: _Named) -> ListedImage:
    # What is no file has no size.
    size, time = (-1, 0) if info is None or info.size is None else (info.size, info.mtime_ns or 0)
    return ListedImage(path, size, time, table=table, rows=tuple(named.rows), text=named.text.hex())


def _told_once(
    found: Sequence[tuple[str, ...]], columns: int, path: str, rows: CatalogRows
) -> list[tuple[str, ...]]:
    """An image's rows without those that repeat one; what is odd is noted."""
    once = list(dict.fromkeys(found))
    for _ in range(len(found) - len(once)):
        rows.note("rows are repeated, and taken once", path)
    for fields in once:
        if len(fields) != columns:
            more = "more" if len(fields) > columns else "fewer"
            rows.note(f"rows have {more} fields than the first line has names", path)
        if any("\ufffd" in text for text in fields):
            rows.note("rows are not UTF-8; what cannot be read became \ufffd", path)
    return once
