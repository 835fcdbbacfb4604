"""MS-COCO: an annotation file with captions, and a folder of images."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from engine.catalog.extra import captions_of
from engine.catalog.files import chunked, digest_files, is_image, read_contents, without_ending
from engine.catalog.listing import FoundFile, find_files
from engine.catalog.naming import space_of
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import ImageFile, Shard, file_state, files_state, scan_settings
from engine.errors import RecipeError, StorageError
from engine.recipe import Images
from engine.storage import Location, locate


@dataclass(frozen=True)
class Annotations:
    """What a captions_*.json holds: its images, and the (id, caption) pairs of each image id."""

    images: list[dict[str, Any]]
    captions: Mapping[Any, list[tuple[Any, str]]]


def discover_coco(uri: str, images: Images) -> list[Shard]:
    """Cut the annotated images into shards, sorted by file name.

    Raises:
        RecipeError: the annotation file cannot be used, or a file name is ambiguous.
    """
    place = locate(images.annotations or "")
    annotations, state = load_annotations(place)
    found = find_files(uri, is_image)
    root = found[0].root if found else locate(uri).uri
    resolver = _Resolver(found, place.name)
    order = sorted(range(len(annotations.images)), key=lambda i: annotations.images[i]["file_name"])
    files = [resolver.resolve(annotations.images[i]["file_name"], i) for i in order]
    name = place.name.removesuffix(".json")
    settings = scan_settings(images)
    return [
        Shard(f"{name}/{index:06d}", root, "files", files_state(chunk, settings, state), chunk)
        for index, chunk in enumerate(chunked(files, images.shard_images))
    ]


def scan_coco(shard: Shard, images: Images) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Read a shard's images; keys are file names without ending, captions in the order of ids.

    Returns:
        The catalog table, the shard's digest (of its own images and captions only), and warnings.

    Raises:
        RecipeError: the annotation file was changed meanwhile.
        StorageError: the store fails; a single file that does becomes an error row.
    """
    annotations, _ = load_annotations(locate(images.annotations or ""))
    rows = CatalogRows(space_of(shard))
    contents = list(read_contents(shard, images.digest == "content"))
    for found in contents:
        if found.file.record >= len(annotations.images):
            raise RecipeError(f"images.annotations: {images.annotations} has changed meanwhile; run again")
        image = annotations.images[found.file.record]
        pairs = annotations.captions.get(image["id"], [])
        extra = {"image_id": image["id"], "caption_ids": [number for number, _ in pairs]}
        extra |= {name: value for name, value in image.items() if name not in ("id", "file_name")}
        rows.add(
            without_ending(image["file_name"]),
            f"{shard.uri}/{found.file.path}",
            None if found.error else (0, found.file.size),
            captions_of([text for _, text in pairs]),
            extra,
            found.error,
            identity=image["file_name"],
        )
    table = rows.to_table()
    texts = json.dumps(table.select(["key", "captions", "extra"]).to_pydict())
    return table, digest_files(contents, texts), rows.warnings(shard.name)


def load_annotations(place: Location) -> tuple[Annotations, str]:
    """The annotations and the file's state.

    Raises:
        RecipeError: the file is missing, is no JSON, or is no COCO captions file.
    """
    try:
        state = file_state(place.info())
        return _load(place, state), state
    except (StorageError, ValueError, RecursionError) as error:
        raise RecipeError(
            f"images.annotations: {place.uri} cannot be used ({error}); name a COCO captions_*.json"
        ) from error
    except (TypeError, KeyError, AttributeError) as error:
        raise RecipeError(
            f"images.annotations: {place.uri} is no COCO captions file: it needs `images` with `id` and "
            f"`file_name`, and `annotations` with `image_id`, `id` and `caption` (failed at {error})"
        ) from error


@lru_cache(maxsize=1)  # a worker scans many shards of the same annotations
def _load(place: Location, state: str) -> Annotations:
    data = json.loads(place.read_text())
    for image in data["images"]:
        image["file_name"] + "", image["id"]
    captions: dict[Any, list[tuple[Any, str]]] = {}
    for note in data["annotations"]:
        captions.setdefault(note["image_id"], []).append((note["id"], note["caption"]))
    for pairs in captions.values():
        pairs.sort(key=lambda pair: pair[0])
    return Annotations(data["images"], captions)


class _Resolver:
    """Finds the file of an annotated image, in the folder or in a split's folder below it."""

    def __init__(self, found: list[FoundFile], annotations: str) -> None:
        self._words = set(re.split(r"[_.]", annotations))
        self._by_path = {file.path: file for file in found}
        self._by_name: dict[str, list[FoundFile]] = {}
        for file in found:
            self._by_name.setdefault(file.info.base_name, []).append(file)

    def resolve(self, name: str, record: int) -> ImageFile:
        """The file, with size -1 if it is not there."""
        file = self._by_path.get(name) or self._below(name)
        if file is None:
            return ImageFile(name, -1, record=record)
        return ImageFile(file.path, file.info.size, file.info.mtime_ns or 0, record=record)

    def _below(self, name: str) -> FoundFile | None:
        found = self._by_name.get(name.rpartition("/")[2], [])
        if len(found) > 1:
            # captions_train2014.json belongs to train2014/, not to the val2014/ beside it.
            found = [f for f in found if self._words & set(f.path.split("/")[:-1])] or found
        if len(found) > 1:
            places = " and ".join(file.path for file in found[:2])
            raise RecipeError(f"images.uri: {name} is in {places}; name the folder of the split itself")
        return found[0] if found else None
