"""Karpathy's splits of COCO, Flickr30K and Flickr8K: a dataset_*.json, and a folder of images."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.catalog.annotated import Form, find_annotated, load_annotations, record_of
from engine.catalog.extra import captions_of
from engine.catalog.files import digest_files, read_contents, without_ending
from engine.catalog.naming import space_of
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import Shard
from engine.errors import RecipeError
from engine.recipe import Images


@dataclass(frozen=True)
class SplitImage:
    """An image of a split file.

    Attributes:
        key: its file name without ending.
        path: its file name, below the folder that the split file names, if any.
        identity: its path, and how many images before it have the same.
        split: the split it belongs to.
        captions: in the order of its sentences.
        extra: every other field but the sentences.
    """

    key: str
    path: str
    identity: str
    split: str
    captions: list[str]
    extra: dict[str, Any]


def discover_karpathy(uri: str, images: Images) -> list[Shard]:
    """Cut the images of the chosen splits into shards, sorted by path.

    Raises:
        RecipeError: the split file cannot be used, has no image of a split, or a file name is ambiguous.
    """
    records, state = load_annotations(images, _FORM)
    there = {record.split for record in records}
    for split in images.splits:
        if split not in there:
            names = f"it has {', '.join(sorted(there))}" if there else "it has no images at all"
            raise RecipeError(f"images.split: {images.annotations} has no image of split '{split}'; {names}")
    named = [(each.path, number) for number, each in enumerate(records) if each.split in images.splits]
    return find_annotated(uri, images, named, state)


def scan_karpathy(shard: Shard, images: Images) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Read a shard's images; keys are file names without ending, captions in the order of sentences.

    Returns:
        The catalog table, the shard's digest (of its own images and captions only), and warnings.

    Raises:
        RecipeError: the split file was changed meanwhile.
        StorageError: the store fails; a single file that does becomes an error row.
    """
    records, _ = load_annotations(images, _FORM)
    rows = CatalogRows(space_of(shard))
    contents = list(read_contents(shard, images.digest == "content"))
    for found in contents:
        image = record_of(records, found.file, images)
        rows.add(
            image.key,
            f"{shard.uri}/{found.file.path}",
            None if found.error else (0, found.file.size),
            image.captions,
            image.extra,
            found.error,
            identity=image.identity,
        )
    table = rows.to_table()
    texts = json.dumps(table.select(["key", "captions", "extra"]).to_pydict())
    return table, digest_files(contents, texts), rows.warnings(shard.name)


def _parse(data: Any) -> list[SplitImage]:
    seen: Counter[str] = Counter()
    return [_split_image(image, seen) for image in data["images"]]


def _split_image(image: dict[str, Any], seen: Counter[str]) -> SplitImage:
    name, folder = image["filename"] + "", image.get("filepath") or ""
    path = f"{folder + ''}/{name}" if folder else name
    # Counted over the whole file: images of one name may fall into different shards.
    identity = f"{seen[path]} {path}"
    seen[path] += 1
    captions = captions_of([sentence["raw"] + "" for sentence in image["sentences"]])
    extra = {key: value for key, value in image.items() if key not in ("filename", "filepath", "sentences")}
    return SplitImage(without_ending(name), path, identity, image["split"] + "", captions, extra)


_FORM = Form(
    _parse,
    "Karpathy split file",
    "a dataset_coco.json, dataset_flickr30k.json or dataset_flickr8k.json",
    "`images` with `filename`, `split` and `sentences`, each of them with `raw`",
)
