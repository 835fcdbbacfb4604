"""MS-COCO: an annotation file with captions, and a folder of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.catalog.annotated import Form, find_annotated, load_annotations, record_of
from engine.catalog.extra import captions_of
from engine.catalog.files import digest_files, read_contents, without_ending
from engine.catalog.naming import space_of
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import Shard
from engine.recipe import Images


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
    annotations, state = load_annotations(images, _FORM)
    named = [(image["file_name"], record) for record, image in enumerate(annotations.images)]
    return find_annotated(uri, images, named, state)


def scan_coco(shard: Shard, images: Images) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Read a shard's images; keys are file names without ending, captions in the order of ids.

    Returns:
        The catalog table, the shard's digest (of its own images and captions only), and warnings.

    Raises:
        RecipeError: the annotation file was changed meanwhile.
        StorageError: the store fails; a single file that does becomes an error row.
    """
    annotations, _ = load_annotations(images, _FORM)
    rows = CatalogRows(space_of(shard))
    contents = list(read_contents(shard, images.digest == "content"))
    for found in contents:
        image = record_of(annotations.images, found.file, images)
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


def _parse(data: Any) -> Annotations:
    for image in data["images"]:
        image["file_name"] + "", image["id"]
    captions: dict[Any, list[tuple[Any, str]]] = {}
    for note in data["annotations"]:
        captions.setdefault(note["image_id"], []).append((note["id"], note["caption"]))
    for pairs in captions.values():
        pairs.sort(key=lambda pair: pair[0])
    return Annotations(data["images"], captions)


_FORM = Form(
    _parse,
    "COCO captions file",
    "a COCO captions_*.json",
    "`images` with `id` and `file_name`, and `annotations` with `image_id`, `id` and `caption`",
)
