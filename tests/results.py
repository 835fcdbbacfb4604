"""What a run directory holds, as far as the recipe alone decides it, wherever it lies."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

import pyarrow.fs as pafs

from engine.storage import Location, locate

#: Of these the content also tells when, where or how long, or has random names within.
_TOLD = ("recipe.yaml", "_recipe.yaml", "map.html")


def results(out: Path | str) -> dict[str, bytes]:
    """Tables, figures, pages and pictures by their path in the run directory; random parts of names left out.

    Runs that are compared have the same last name: it stands in titles.
    """
    root = locate(out)
    names = [name for name in _infos(root) if _decided(PurePath(name))]
    return {re.sub(r"tables-\w{8}/", "tables/", name): (root / name).read_bytes() for name in names}


def stamps(out: Path | str) -> dict[str, int]:
    """When each committed stage table was written: another time, if it was written again."""
    found = _infos(locate(out) / "stages")
    return {name: info.mtime_ns for name, info in found.items() if PurePath(name).name.startswith("part-")}


def _decided(name: PurePath) -> bool:
    # The catalog tells when shards were last changed.
    return name.parts[0] != "catalog" and name.suffix != ".json" and name.name not in _TOLD


def _infos(root: Location) -> dict[str, pafs.FileInfo]:
    inside = len(root.resolve()[1]) + 1
    return {info.path[inside:]: info for info in root.entries(recursive=True) if info.is_file}
