"""Shards that are lists of image files: digests and sidecars, for folders and annotated sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from engine.catalog.forward import CHUNK
from engine.catalog.shard import IMAGE_ENDINGS, ImageFile, Shard
from engine.errors import StorageError
from engine.storage import Location, digest_of
from engine.storage.fingerprint import DIGEST_BYTES
from engine.storage.location import explained

#: Files are small, so reading them waits: on a disk's queue, and far longer on an object store.
LOCAL_THREADS = 8
REMOTE_THREADS = 32


@dataclass(frozen=True)
class FileContent:
    """What a scan read of an image file: its size and digest, or why it could not be read."""

    file: ImageFile
    digest: str
    error: str | None = None


def is_image(name: str) -> bool:
    """Whether a file name has the ending of an image."""
    return "." in name and name.rpartition(".")[2].lower() in IMAGE_ENDINGS


def without_ending(path: str) -> str:
    """The path without the ending of its last component."""
    folder, slash, base = path.rpartition("/")
    return folder + slash + (base.rpartition(".")[0] or base)


def threads_for(place: Location) -> int:
    """How many files to read at a time."""
    return LOCAL_THREADS if place.is_local else REMOTE_THREADS


def read_contents(shard: Shard, content: bool) -> Iterator[FileContent]:
    """Digest the shard's files in order; from their listing alone where `content` is False."""
    if not content:
        listed = (FileContent(f, digest_of(str(f.size), str(f.mtime_ns))) for f in shard.files)
        yield from (_missing(found.file) if found.file.size < 0 else found for found in listed)
        return
    with ThreadPoolExecutor(threads_for(Location(shard.uri))) as threads:
        yield from threads.map(lambda file: _read(shard.uri, file), shard.files)


def digest_files(contents: Iterable[FileContent], *more: str) -> str:
    """The digest of a shard: paths and digests of its files, and what else decides its rows."""
    return digest_of(*(text for c in contents for text in (c.file.path, c.digest)), *more)


def chunked(files: Sequence[ImageFile], size: int) -> Iterator[tuple[ImageFile, ...]]:
    """Consecutive files, `size` at a time."""
    for start in range(0, len(files), size):
        yield tuple(files[start : start + size])


def _read(root: str, file: ImageFile) -> FileContent:
    if file.size < 0:
        return _missing(file)
    place = Location(root) / file.path
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    size = 0
    try:
        fs, path = place.resolve()
        with explained(place), fs.open_input_file(path) as source:
            while chunk := source.read(CHUNK):
                hasher.update(chunk)
                size += len(chunk)
    except StorageError as error:
        if reason := file_failure(place, error):
            return FileContent(replace(file, size=0), "", reason)
        raise
    return FileContent(replace(file, size=size), hasher.hexdigest())


def file_failure(place: Location, error: StorageError) -> str | None:
    """Why one file is lost, or None if the failure concerns the whole store.

    An object store that cannot be reached must not turn good samples into error rows.
    """
    match error.__cause__:
        case FileNotFoundError():
            return "image file is missing"
        case PermissionError():
            return "no permission to read the image file"
        case _:
            return "image file cannot be read" if place.is_local else None


def _missing(file: ImageFile) -> FileContent:
    return FileContent(file, "", "image file is missing")
