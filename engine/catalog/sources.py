"""Finding the shards of a source, and scanning one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from engine.catalog.coco import discover_coco, scan_coco
from engine.catalog.folder import discover_folder, scan_folder
from engine.catalog.listing import find_files
from engine.catalog.naming import distinct
from engine.catalog.parquet import is_parquet, scan_parquet
from engine.catalog.shard import Format, Shard, file_state, scan_settings
from engine.catalog.tar import scan_tar
from engine.catalog.tsv import discover_tsv, scan_tsv
from engine.catalog.webdataset import is_tar
from engine.errors import RecipeError
from engine.recipe import Images
from engine.storage import Location

_KINDS = {
    "webdataset": ".tar, .tar.gz or .tgz files",
    "parquet": ".parquet files",
    "folder": "image files (jpg, png, webp, gif, bmp, tiff)",
    "coco": "annotated images",
    "tsv": "rows of tables (.tsv, .csv)",
}


@dataclass(frozen=True)
class ScannedShard:
    """What a scan found: the catalog (schema CATALOG), the content's digest, and warnings."""

    table: pa.Table
    digest: str
    warnings: tuple[str, ...]


def discover(images: Images, run: Location | None = None) -> list[Shard]:
    """Find the shards of a source, sorted by name; reads listings only.

    Args:
        images: names the source.
        run: the run's directory; if it lies within the source, its own tables are no shards.

    Raises:
        RecipeError: nothing is found, something named is missing, or may not be read.
        StorageError: the filesystem fails.
    """
    uris = (images.uri,) if isinstance(images.uri, str) else images.uri
    if images.source == "coco" and len(uris) != 1:
        raise RecipeError("images.uri: source coco takes one image folder; use one run for each split")
    places: list[list[Shard]] = []
    for uri in uris:
        shards = [shard for shard in _discover_one(uri, images, run) if not _lies_in(shard, run)]
        if not shards:
            raise RecipeError(
                f"images.uri: no {_KINDS[images.source]} at {uri}; name a directory that holds them, a glob "
                "such as dir/*, or a range such as dir/{00000..00117}, and check images.source"
            )
        places.append(shards)
    return sorted(distinct(places), key=lambda shard: shard.name)


def _lies_in(shard: Shard, run: Location | None) -> bool:
    return run is not None and shard.format != "files" and shard.uri.startswith(f"{run.uri.rstrip('/')}/")


def scan(shard: Shard, images: Images) -> ScannedShard:
    """Read a shard once and catalog its samples.

    Raises:
        RecipeError: the shard is not what the recipe says, for example lacks the named column.
        StorageError: it cannot be read.
    """
    match images.source:
        case "webdataset":
            return ScannedShard(*scan_tar(shard, images.digest == "content"))
        case "parquet":
            return ScannedShard(*scan_parquet(shard, images))
        case "folder":
            return ScannedShard(*scan_folder(shard, images.digest == "content"))
        case "coco":
            return ScannedShard(*scan_coco(shard, images))
        case "tsv":
            return ScannedShard(*scan_tsv(shard, images))


def _discover_one(uri: str, images: Images, run: Location | None) -> list[Shard]:
    match images.source:
        case "webdataset":
            return _discover_files(uri, images, is_tar)
        case "parquet":
            return _discover_files(uri, images, is_parquet)
        case "folder":
            return discover_folder(uri, images)
        case "coco":
            return discover_coco(uri, images)
        case "tsv":
            return discover_tsv(uri, images, run)


def _discover_files(uri: str, images: Images, wanted: Callable[[str], bool]) -> list[Shard]:
    settings = scan_settings(images)
    return [
        Shard(file.path, file.uri, _format(file.path), f"{file_state(file.info)} {settings}")
        for file in find_files(uri, wanted)
    ]


def _format(path: str) -> Format:
    if is_parquet(path):
        return "parquet"
    return "tar.gz" if path.lower().endswith((".gz", ".tgz")) else "tar"
