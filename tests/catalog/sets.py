"""Small data sets to catalog, and reading one back whole."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.catalog import CatalogTables, discover, plan_parts, read_part
from engine.recipe import Images
from engine.storage import locate

DATA = Path(__file__).parent.parent / "data"
JPEG = (DATA / "cat.jpg").read_bytes()

Entry = tuple[str, bytes]


def picture(number: int) -> bytes:
    """An image's bytes, another for every number (a viewer ignores what follows its end)."""
    return JPEG + number.to_bytes(4, "big")


def entries(count: int, start: int = 0) -> list[Entry]:
    """Members of WebDataset samples with image, caption and metadata."""
    found: list[Entry] = []
    for n in range(start, start + count):
        found += [
            (f"{n:05d}.jpg", picture(n)),
            (f"{n:05d}.txt", f"caption {n}\n".encode()),
            (f"{n:05d}.json", b'{"number": %d}' % n),
        ]
    return found


def tar_bytes(members: Iterable[Entry], mode: str = "w", format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of the members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def webdataset(uri: object, **more: Any) -> Images:
    return Images(source="webdataset", uri=str(uri), **more)


def catalog_all(images: Images, run: Path | str) -> tuple[CatalogTables, list[str]]:
    """Catalog every shard; returns the tables and all warnings."""
    tables = CatalogTables(locate(run))
    updates = [tables.update(shard, images) for shard in discover(images)]
    return tables, [warning for update in updates for warning in update.shard.warnings]


def read_all(
    images: Images, run: Path | str, part_rows: int = 4, part_bytes: int = 2**20
) -> list[dict[str, Any]]:
    """Catalog, plan and read a whole set: its rows with their images."""
    tables, _ = catalog_all(images, run)
    headers = tables.get_all(discover(images)).values()
    plan = plan_parts(tables.directory, headers, part_rows, part_bytes)
    rows: list[dict[str, Any]] = []
    for part in plan.to_pylist():
        rows += read_part(tables.directory / part["catalog"], part["start"], part["rows"]).to_pylist()
    return rows
