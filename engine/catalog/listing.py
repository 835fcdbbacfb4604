"""Files named by `images.uri`: directories, globs, ranges and lists, on any filesystem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow.fs as pafs

from engine.catalog.pattern import expand_braces, glob_matches, is_glob, is_pattern, static_root
from engine.errors import RecipeError, StorageError
from engine.storage import Location, locate

#: From so many names in one directory of an object store on, listing it beats asking for each.
_LIST_FROM = 16


@dataclass(frozen=True)
class FoundFile:
    """A file: its path relative to its root, its root's URI, and what the listing says."""

    path: str
    root: str
    info: pafs.FileInfo

    @property
    def uri(self) -> str:
        """The file's own URI."""
        return f"{self.root}/{self.path}"


def find_files(uri: str, wanted: Callable[[str], bool]) -> list[FoundFile]:
    """Find the files that a URI names, sorted by path; hidden ones are passed over.

    Args:
        uri: a file, a directory (searched through), or a pattern of files or directories.
        wanted: whether to take a file found in a directory, by its name.

    Raises:
        RecipeError: something named is missing or may not be read.
        StorageError: the filesystem fails.
    """
    try:
        return _find(uri, wanted)
    except StorageError as error:
        if isinstance(error.__cause__, PermissionError | FileNotFoundError | NotADirectoryError):
            raise RecipeError(f"images.uri: {error}") from error
        raise
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"images.uri: {uri}: holds a file whose name is not UTF-8 ({error.object!r}); rename it"
        ) from error


def is_hidden(path: str) -> bool:
    """Whether a component of a relative path starts with a dot, as half-written files do."""
    return any(part.startswith(".") for part in path.split("/"))


def _find(uri: str, wanted: Callable[[str], bool]) -> list[FoundFile]:
    place = locate(uri.rstrip("/") or uri)
    kind = _kind(place)  # a name with brackets that exists is meant as it stands
    if kind == pafs.FileType.File:
        return [FoundFile(place.name, place.uri.rpartition("/")[0], place.info())]
    if kind == pafs.FileType.Directory:
        return list(_inside(place.uri, "", wanted))
    if trouble := place.without_bucket():
        raise RecipeError(f"images.uri: {trouble}")
    root = static_root(place.uri)
    names = [expanded[len(root) + 1 :] for expanded in expand_braces(place.uri)]
    exact = [name for name in names if not is_glob(name)]
    found = {file.path: file for file in _exact(root, exact, wanted)}
    for pattern in (name for name in names if is_glob(name)):
        found |= {file.path: file for file in _globbed(root, pattern, wanted)}
    return [found[path] for path in sorted(found)]


def _kind(place: Location) -> pafs.FileType:
    try:
        return place.info().type
    except StorageError:
        # A pattern may be longer than any name; what fails besides fails again in its listing.
        if is_pattern(place.uri):
            return pafs.FileType.NotFound
        raise


def _inside(root: str, below: str, wanted: Callable[[str], bool]) -> Iterator[FoundFile]:
    """The wanted files of a directory tree, `below` the root."""
    place = Location(root) / below if below else Location(root)
    for path, info in _relative(root, place.entries(recursive=True)):
        if info.type == pafs.FileType.File and not is_hidden(path) and wanted(info.base_name):
            yield FoundFile(path, root, info)


def _exact(root: str, names: list[str], wanted: Callable[[str], bool]) -> Iterator[FoundFile]:
    """Every name must be there: a range with a hole is a data set with a hole."""
    infos = _look_up(root, names)
    missing = [name for name in names if name not in infos]
    if missing:
        raise RecipeError(
            f"images.uri: {missing[0]} does not exist under {root} ({len(missing)} missing of {len(names)} "
            "named); correct the path or its range"
        )
    for name in names:
        if infos[name].type == pafs.FileType.Directory:
            yield from _inside(root, name, wanted)
        else:
            yield FoundFile(name, root, infos[name])


def _look_up(root: str, names: list[str]) -> dict[str, pafs.FileInfo]:
    """What is there of the names, by name."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    infos: dict[str, pafs.FileInfo] = {}
    for folder, inside in folders.items():
        place = Location(f"{root}/{folder}".rstrip("/"))
        if len(inside) >= _LIST_FROM and not place.is_local:
            listed = dict(_relative(root, place.entries()))
            infos |= {name: listed[name] for name in inside if name in listed}
        else:
            infos |= {name: (Location(root) / name).info() for name in inside}
    return {name: info for name, info in infos.items() if info.type != pafs.FileType.NotFound}


def _globbed(root: str, pattern: str, wanted: Callable[[str], bool]) -> Iterator[FoundFile]:
    deep = "/" in pattern
    for path, info in _relative(root, Location(root).entries(recursive=deep)):
        if is_hidden(path) or not glob_matches(path, pattern):
            continue
        if info.type == pafs.FileType.Directory:
            yield from _inside(root, path, wanted)
        elif wanted(info.base_name):
            yield FoundFile(path, root, info)


def _relative(root: str, infos: list[pafs.FileInfo]) -> Iterator[tuple[str, pafs.FileInfo]]:
    """Paths relative to the root; an object store's paths lack the scheme."""
    length = len(Location(root).resolve()[1]) + 1
    for info in infos:
        yield info.path[length:], info
