"""A folder of images and the JSON that annotates them: reading it, and finding each image's file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from engine.catalog.files import chunked, is_image
from engine.catalog.listing import FoundFile, find_files
from engine.catalog.shard import ImageFile, Shard, file_state, files_state, scan_settings
from engine.errors import RecipeError, StorageError
from engine.recipe import Images
from engine.schema import storable
from engine.storage import Location, locate

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Form(Generic[Parsed]):
    """What an annotation file must be.

    Attributes:
        parse: takes what one needs from the JSON; raises KeyError, TypeError or AttributeError
            where it is of another form. A function of a module, since its results are kept.
        kind: what such a file is called, as in "is no ...".
        example: the file to name, as in "name ...".
        needs: the fields, as in "it needs ...".
    """

    parse: Callable[[Any], Parsed]
    kind: str
    example: str
    needs: str


def load_annotations(images: Images, form: Form[Parsed]) -> tuple[Parsed, str]:
    """The annotations and their file's state.

    Raises:
        RecipeError: the file is missing, is no JSON, or is of another form.
    """
    place = locate(images.annotations or "")
    try:
        state = file_state(place.info())
        return _load(place, state, form.parse), state
    except (StorageError, ValueError, RecursionError) as error:
        raise RecipeError(
            f"images.annotations: {place.uri} cannot be used ({error}); name {form.example}"
        ) from error
    except (TypeError, KeyError, AttributeError) as error:
        raise RecipeError(
            f"images.annotations: {place.uri} is no {form.kind}: it needs {form.needs} (failed at {error})"
        ) from error


@lru_cache(maxsize=1)  # a worker scans many shards of the same annotations
def _load(place: Location, state: str, parse: Callable[[Any], Any]) -> Any:
    return parse(json.loads(place.read_text()))


def record_of(records: Sequence[Parsed], file: ImageFile, images: Images) -> Parsed:
    """What the annotations say of a shard's file.

    Raises:
        RecipeError: the annotations were changed since the shard was cut.
    """
    if file.record >= len(records):
        raise RecipeError(f"images.annotations: {images.annotations} has changed meanwhile; run again")
    return records[file.record]


def find_annotated(uri: str, images: Images, named: Iterable[tuple[str, int]], state: str) -> list[Shard]:
    """Cut annotated images into shards, sorted by file name; one that is not there has the size -1.

    Args:
        uri: the image folder.
        images: names the annotations.
        named: the file name of each image, and its position in the annotations.
        state: of the annotations.

    Raises:
        RecipeError: the folder is missing, or a file name is ambiguous.
    """
    found = find_files(uri, is_image)
    root = found[0].root if found else locate(uri).uri
    resolver = _Resolver(found, locate(images.annotations or "").name)
    return cut(root, [resolver.resolve(name, record) for name, record in sorted(named)], images, state)


def cut(root: str, files: Sequence[ImageFile], images: Images, state: str) -> list[Shard]:
    """Shards of consecutive files, named by the annotations' file and a number."""
    name = locate(images.annotations or "").name.removesuffix(".json")
    settings = scan_settings(images)
    return [
        Shard(f"{name}/{index:06d}", root, "files", files_state(chunk, settings, state), chunk)
        for index, chunk in enumerate(chunked(files, images.shard_images))
    ]


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
            return ImageFile(storable(name), -1, record=record)
        return ImageFile(file.path, file.info.size, file.info.mtime_ns or 0, record=record)

    def _below(self, name: str) -> FoundFile | None:
        found = self._by_name.get(name.rpartition("/")[2], [])
        if len(found) > 1:
            # val2014/0.jpg is images/val2014/0.jpg, not the images/train2014/0.jpg beside it.
            found = [f for f in found if f.path.endswith(f"/{name}")] or found
        if len(found) > 1:
            # captions_train2014.json belongs to train2014/, not to the val2014/ beside it.
            found = [f for f in found if self._words & set(f.path.split("/")[:-1])] or found
        if len(found) > 1:
            places = " and ".join(file.path for file in found[:2])
            raise RecipeError(f"images.uri: {name} is in {places}; name the folder of the split itself")
        return found[0] if found else None
