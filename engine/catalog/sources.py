"""Finding the shards of a source, and scanning one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from engine.catalog.coco import discover_coco, scan_coco
from engine.catalog.extra import first_captions
from engine.catalog.folder import discover_folder, scan_folder
from engine.catalog.karpathy import discover_karpathy, scan_karpathy
from engine.catalog.listing import find_files
from engine.catalog.naming import distinct
from engine.catalog.parquet import is_parquet, scan_parquet
from engine.catalog.poems import discover_poems, scan_poems
from engine.catalog.shard import Format, Shard, file_state, scan_settings
from engine.catalog.tar import scan_tar
from engine.catalog.tsv import discover_tsv, scan_tsv
from engine.catalog.webdataset import is_tar
from engine.errors import RecipeError
from engine.recipe import Images
from engine.storage import Location, digest_of

_KINDS = {
    "webdataset": ".tar, .tar.gz or .tgz files",
    "parquet": ".parquet files",
    "folder": "image files (jpg, png, webp, gif, bmp, tiff)",
    "coco": "annotated images",
    "karpathy": "annotated images",
    "poems": "poems",
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
    if images.annotations is not None and len(uris) != 1:
        raise RecipeError(
            f"images.uri: source {images.source} takes one image folder, with whatever is below it; use one "
            "run for each file of annotations"
        )
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
    table, digest, warnings = _scan_one(shard, images)
    if images.captions_each is not None:
        table, cut = first_captions(table, images.captions_each)
        # What is cut decides what follows; where nothing is, the shard is what it was.
        digest = digest_of(digest, str(images.captions_each)) if cut else digest
    return ScannedShard(table, digest, warnings)


def _scan_one(shard: Shard, images: Images) -> tuple[pa.Table, str, tuple[str, ...]]:
    match images.source:
        case "webdataset":
            return scan_tar(shard, images.digest == "content")
        case "parquet":
            return scan_parquet(shard, images)
        case "folder":
            return scan_folder(shard, images)
        case "coco":
            return scan_coco(shard, images)
        case "karpathy":
            return scan_karpathy(shard, images)
        case "poems":
            return scan_poems(shard, images)
        case "tsv":
            return scan_tsv(shard, images)


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
        case "karpathy":
            return discover_karpathy(uri, images)
        case "poems":
            return discover_poems(uri, images)
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
