"""MultiM-Poem: a JSON of poems with the URLs of their images, and a folder of those that were downloaded."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.catalog.annotated import Form, cut, load_annotations, record_of
from engine.catalog.downloaded import Download, match_downloads
from engine.catalog.extra import captions_of
from engine.catalog.files import digest_files, is_image, read_contents
from engine.catalog.listing import find_files
from engine.catalog.naming import space_of
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import ImageFile, Shard
from engine.errors import RecipeError
from engine.recipe import Images


@dataclass(frozen=True)
class Poem:
    """A record of the file of poems.

    Attributes:
        image: the record's id and the URL of its image.
        identity: the id, and how many records before it have the same.
        text: the poem, line by line.
        extra: every other field, the id and the URL among them.
    """

    image: Download
    identity: str
    text: str
    extra: dict[str, Any]


def discover_poems(uri: str, images: Images) -> list[Shard]:
    """Cut the poems into shards, in their order; a poem whose image is not there has the size -1.

    Raises:
        RecipeError: the file of poems cannot be used, no poem has an image in the folder, or it cannot
            be told whose image a file is.
    """
    poems, state = load_annotations(images, _FORM)
    found = find_files(uri, is_image)
    there = match_downloads([poem.image for poem in poems], found)
    if not there:
        raise RecipeError(
            f"images.uri: none of the {len(poems)} poems of {images.annotations} has an image in {uri}; "
            "download them, each named by its poem's id (7.jpg) or by the last part of its URL"
        )
    files = []
    for record in range(len(poems)):
        file = there.get(record)
        if file is None:
            files.append(ImageFile("", -1, record=record))
        else:
            files.append(ImageFile(file.path, file.info.size, file.info.mtime_ns or 0, record=record))
    return cut(found[0].root, files, images, state)


def scan_poems(shard: Shard, images: Images) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Read a shard's images; keys are the poems' ids, and the poem is the only caption.

    Links go dead, so poems whose image was not there to begin with are no failures: they are left
    out, and a warning counts them.

    Returns:
        The catalog table, the shard's digest (of its own images and poems only), and warnings.

    Raises:
        RecipeError: the file of poems was changed meanwhile.
        StorageError: the store fails; a single file that does becomes an error row.
    """
    poems, _ = load_annotations(images, _FORM)
    rows = CatalogRows(space_of(shard))
    # An image that went since it was listed has a size, and becomes an error row.
    contents = [each for each in read_contents(shard, images.digest == "content") if each.file.size >= 0]
    for found in contents:
        poem = record_of(poems, found.file, images)
        rows.add(
            poem.image.id,
            f"{shard.uri}/{found.file.path}",
            None if found.error else (0, found.file.size),
            captions_of(poem.text),
            poem.extra,
            found.error,
            identity=poem.identity,
        )
    if absent := len(shard.files) - len(contents):
        rows.note(f"{absent} of {len(shard.files)} poems have no image in the folder, and are left out")
    table = rows.to_table()
    texts = json.dumps(table.select(["key", "captions", "extra"]).to_pydict())
    return table, digest_files(contents, texts), rows.warnings(shard.name)


def _parse(data: Any) -> list[Poem]:
    if not isinstance(data, list):
        raise TypeError(f"the {type(data).__name__} in place of a list")
    seen: Counter[str] = Counter()
    return [_poem(record, seen) for record in data]


def _poem(record: dict[str, Any], seen: Counter[str]) -> Poem:
    number = record["id"]
    if not isinstance(number, int | str):
        raise TypeError(f"the id {number!r}")
    image = Download(str(number), record["image_url"] + "")
    # Counted over the whole file: records of one id may fall into different shards.
    identity = f"{seen[image.id]} {image.id}"
    seen[image.id] += 1
    extra = {name: value for name, value in record.items() if name != "poem"}
    return Poem(image, identity, record["poem"] + "", extra)


_FORM = Form(
    _parse,
    "file of poems",
    "MultiM-Poem's multim_poem.json",
    "a list of records with `id`, `poem` and `image_url`",
)
