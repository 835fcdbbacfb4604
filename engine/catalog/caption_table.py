"""A table of image files and captions, as open_clip's trainer reads it: what its columns and rows mean."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.catalog.anywhere import has_scheme, is_outside
from engine.catalog.delimited import parse_record, read_records
from engine.catalog.ranges import read_ranges
from engine.errors import RecipeError
from engine.recipe import Images
from engine.storage import Location
from engine.storage.location import explained

#: Of a first line that names no columns, what a message shows.
_SHOWN = 300


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        path: of the image, relative to the root where it lies below it, else a URI; "" if the row
            names none.
        start: its first byte in the table.
        data: its bytes.
    """

    path: str
    start: int
    data: bytes


@dataclass(frozen=True)
class CaptionTable:
    """A table with its columns.

    Attributes:
        place: the file.
        root: the directory that images are named from, where they lie below it.
        names: of the columns, each once.
        image: the position of the column with image files.
        header: the first line, as it stands.
    """

    place: Location
    root: str
    names: tuple[str, ...]
    image: int
    header: str

    @classmethod
    def open(cls, place: Location, root: str, images: Images) -> CaptionTable:
        """Read the first line.

        Raises:
            RecipeError: there is none, or it lacks a column that the recipe names.
            StorageError: the file cannot be read.
        """
        first = next(read_records(place), None)
        if first is None:
            raise RecipeError(
                f"images.uri: {place.uri} is empty; its first line must name the columns, such as filepath "
                "and title"
            )
        names = first.fields
        for setting in ("image_column", "caption_column", "key_column"):
            wanted = getattr(images, setting)
            if wanted is not None and names.count(wanted) != 1:
                raise RecipeError(
                    f"images.{setting}: the first line of {place.uri} must name one column {wanted!r}, and "
                    f"names {', '.join(map(repr, names))[:_SHOWN]} (.tsv is split at tabs, .csv at commas)"
                )
        header = first.data.decode("utf-8", "replace")
        return cls(place, root, _once(names), names.index(images.image_column), header)

    def rows(self) -> Iterator[Row]:
        """All rows, in order, without keeping them.

        Raises:
            RecipeError: something is no row, or names a file on the web.
            StorageError: the file cannot be read.
        """
        records = read_records(self.place)
        next(records, None)
        for record in records:
            try:
                yield Row(self._path(record.fields), record.start, record.data)
            except ValueError as error:
                raise RecipeError(
                    f"images.uri: {self.place.uri} names {error} in line {record.line:,}; images are read "
                    "from disks and object stores: download them first, and list the files"
                ) from error

    def values(
        self, wanted: Sequence[tuple[str, Sequence[tuple[int, int]]]]
    ) -> Iterator[list[tuple[str, ...]]]:
        """The values of some rows, image by image.

        Args:
            wanted: the path of each image, and first byte and size of each of its rows.

        Raises:
            RecipeError: other rows stand there now.
            StorageError: the file cannot be read.
        """
        fs, path = self.place.resolve()
        with explained(self.place), fs.open_input_file(path) as file:
            pieces = iter(read_ranges(file, [place for _, places in wanted for place in places]))
        for image, places in wanted:
            found = [tuple(parse_record(self.place, next(pieces).to_pybytes())) for _ in places]
            if any(self._path(fields) != image for fields in found):
                raise RecipeError(f"images.uri: {self.place.uri} has changed meanwhile; run again")
            yield found

    def _path(self, fields: Sequence[str]) -> str:
        text = fields[self.image].removeprefix("file://") if len(fields) > self.image else ""
        if not text:
            return ""
        if text.lower().startswith(("http://", "https://")):
            raise ValueError(text[:_SHOWN])
        if has_scheme(text):
            uri = text
        elif text.startswith("/"):
            uri = posixpath.normpath(text)
        else:
            scheme, mark, folder = self.place.uri.rpartition("/")[0].rpartition("://")
            uri = scheme + mark + posixpath.normpath(f"{folder}/{text}")
        below = uri.removeprefix(f"{self.root.rstrip('/')}/")
        return uri if is_outside(below) else below


def merged(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The columns of an image's rows: one value where all rows agree, else each row's in order."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        found[name] = values[0] if all(value == values[0] for value in values) else values
    return found


def _once(names: Sequence[str]) -> tuple[str, ...]:
    """As pandas does: the second column `a` is `a.1`."""
    counts = (names[:place].count(name) for place, name in enumerate(names))
    return tuple(f"{name}.{count}" if count else name for name, count in zip(names, counts, strict=True))
