"""Files of an object store beside the libraries that read local files only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from engine.storage.location import Location, explained, locate


def local_copy(directory: Location, names: Iterable[str], digest: str) -> Path:
    """A local directory with these files of another place; of a local place the place itself.

    Copies are kept in ``$XDG_CACHE_HOME/connote`` (by default ``~/.cache/connote``), so that the workers
    of a node fetch a model once. They may be deleted at any time.

    Args:
        directory: where the files lie.
        names: of the files, relative to it.
        digest: of what they hold; another content is another copy.

    Raises:
        StorageError: a file cannot be read, or the copy not be written.
    """
    if directory.is_local:
        return Path(directory.uri)
    copies = Path(locate(os.environ.get("XDG_CACHE_HOME") or "~/.cache").uri) / "connote"
    target = copies / digest
    if target.exists():
        return target
    with explained(Location(str(copies))):
        copies.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copies, prefix=".") as unfinished:
            whole = Path(unfinished) / digest
            for name in names:
                Location(str(whole / name)).write_bytes((directory / name).read_bytes())
            _put(whole, target)
    return target


def _put(whole: Path, target: Path) -> None:
    """Give the copy its name, all of it at once; whoever was first has made the same."""
    try:
        whole.rename(target)
    except OSError:
        if not target.exists():
            raise
