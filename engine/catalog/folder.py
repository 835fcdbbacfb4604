"""A tree of image files: shards are runs of files below one top-level directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import pyarrow as pa

from engine.catalog.extra import captions_of, interpret
from engine.catalog.files import chunked, digest_files, is_image, read_contents, without_ending
from engine.catalog.listing import FoundFile, find_files
from engine.catalog.naming import space_of
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import ImageFile, Shard, files_state, scan_settings
from engine.errors import StorageError
from engine.recipe import Images
from engine.storage import Location

_SIDECARS = (".txt", ".json")


def discover_folder(uri: str, images: Images) -> list[Shard]:
    """Cut the image files below a directory into shards, sorted by path.

    A shard never spans two top-level directories, so files that are added to one leave the
    shards of the others alone.
    """
    sidecars = () if images.caption_from == "folder_name" else _SIDECARS
    found = find_files(uri, lambda name: is_image(name) or name.lower().endswith(sidecars))
    settings = scan_settings(images)
    shards = []
    for top, files in groupby(image_files(found), key=lambda file: _top(file.path)):
        for index, chunk in enumerate(chunked(list(files), images.shard_images)):
            state = files_state(chunk, settings)
            shards.append(Shard(f"{top or '.'}/{index:06d}", found[0].root, "files", state, chunk))
    return shards


def _top(path: str) -> str:
    """The top-level directory of a relative path; nothing for a file in the root."""
    return path.partition("/")[0] if "/" in path else ""


def image_files(found: Iterable[FoundFile]) -> Iterator[ImageFile]:
    """The image files of one root, each with the text files of the same stem, by directory."""
    images: list[FoundFile] = []
    sidecars: dict[str, list[FoundFile]] = {}
    for file in found:
        if is_image(file.info.base_name):
            images.append(file)
        else:
            sidecars.setdefault(file.path.rpartition(".")[0], []).append(file)
    # Files of one top-level directory stay together, whatever sorts between its name and a slash.
    for file in sorted(images, key=lambda f: (_top(f.path), f.path)):
        beside = sidecars.get(file.path.rpartition(".")[0], [])
        # A sidecar's time counts as the image's own, so that a new caption is noticed.
        times = [f.info.mtime_ns or 0 for f in (file, *beside)]
        yield ImageFile(file.path, file.info.size, max(times), tuple(f.path for f in beside))


def scan_folder(shard: Shard, images: Images) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Read a shard's files: keys are paths without ending, captions come from sidecars or directories.

    Returns:
        The catalog table, the shard's digest, and warnings.

    Raises:
        StorageError: the store fails; a single file that does becomes an error row.
    """
    rows = CatalogRows(space_of(shard))
    contents = list(read_contents(shard, images.digest == "content"))
    texts = []
    for found in contents:
        path = found.file.path
        beside = _read_sidecars(shard.uri, found.file, rows)
        texts += [text for pair in sorted(beside.items()) for text in pair]
        captions, extra = interpret(beside)
        if images.caption_from == "folder_name":
            captions = captions_of(path.rpartition("/")[0].rpartition("/")[2])
            texts += captions
        place = None if found.error else (0, found.file.size)
        key, uri = without_ending(path), f"{shard.uri}/{path}"
        rows.add(key, uri, place, captions, extra, found.error, identity=path)
    return rows.to_table(), digest_files(contents, *texts), rows.warnings(shard.name)


def _read_sidecars(root: str, file: ImageFile, rows: CatalogRows) -> dict[str, str]:
    """The texts beside an image, by ending."""
    texts = {}
    for path in file.sidecars:
        try:
            texts[path.rpartition(".")[2].lower()] = (Location(root) / path).read_text().lstrip("\ufeff")
        except StorageError as error:
            if error.__cause__ is not None and not isinstance(
                error.__cause__, FileNotFoundError | PermissionError | UnicodeDecodeError
            ):
                raise
            rows.note("text files beside images cannot be read", path)
    return texts
