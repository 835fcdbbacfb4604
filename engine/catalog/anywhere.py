"""Image files that lie below a shard's root, where a relative path names them, or anywhere else, by URI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow.fs as pafs

from engine.catalog.files import FileContent, read_contents, threads_for
from engine.catalog.shard import Shard
from engine.errors import StorageError
from engine.storage import Location

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: From so many files in one directory of an object store on, listing it beats asking for each.
_LIST_FROM = 16


def is_outside(path: str) -> bool:
    """Whether the path of an image is absolute, or names its filesystem, as in s3://bucket/a.jpg."""
    return path.startswith("/") or has_scheme(path)


def has_scheme(path: str) -> bool:
    """Whether a path names its filesystem."""
    return "://" in path and _SCHEME.match(path) is not None


def locate_image(root: str, path: str) -> Location:
    """Where an image lies: below the root, unless its path says otherwise."""
    return Location(path) if is_outside(path) else Location(root) / path


def look_up(root: str, paths: Iterable[str]) -> dict[str, pafs.FileInfo]:
    """What is there of the images, by path.

    Raises:
        StorageError: an object store fails. A disk's file that cannot be looked at is not there.
    """
    folders: dict[str, list[str]] = {}
    for path in filter(None, paths):
        folders.setdefault(locate_image(root, path).uri.rpartition("/")[0], []).append(path)
    with ThreadPoolExecutor(threads_for(Location(root))) as threads:
        found = threads.map(lambda folder: _look_into(Location(folder), root, folders[folder]), folders)
        return {path: info for infos in found for path, info in infos.items()}


def _look_into(folder: Location, root: str, paths: Sequence[str]) -> dict[str, pafs.FileInfo]:
    if not folder.is_local and len(paths) >= _LIST_FROM:
        listed = {info.base_name: info for info in folder.entries()}
        names = {path: path.rpartition("/")[2] for path in paths}
        return {path: listed[name] for path, name in names.items() if name in listed}
    infos: dict[str, pafs.FileInfo] = {}
    for path in paths:
        try:
            infos[path] = locate_image(root, path).info()
        except StorageError:
            # A name that a disk cannot have is that of no file; a store that fails says nothing of one.
            if not folder.is_local:
                raise
    return infos


def digest_images(shard: Shard, content: bool) -> list[FileContent]:
    """Digest the shard's files, in order; see `read_contents`."""
    members: dict[str, list[int]] = {}
    rests = list[str]()
    for index, file in enumerate(shard.files):
        root, rest = _apart(file.path) if is_outside(file.path) else (shard.uri, file.path)
        members.setdefault(root, []).append(index)
        rests.append(rest)
    found: dict[int, FileContent] = {}
    for root, of in members.items():
        files = tuple(replace(shard.files[index], path=rests[index]) for index in of)
        contents = read_contents(replace(shard, uri=root, files=files), content)
        for index, each in zip(of, contents, strict=True):
            found[index] = replace(each, file=replace(each.file, path=shard.files[index].path))
    return [found[index] for index in range(len(shard.files))]


def _apart(uri: str) -> tuple[str, str]:
    """The root of a filesystem, and the path in it."""
    if uri.startswith("/"):
        return "/", uri[1:]
    scheme, _, path = uri.partition("://")
    bucket, _, key = path.partition("/")
    return f"{scheme}://{bucket}", key
