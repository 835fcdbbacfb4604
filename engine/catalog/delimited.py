"""Tab- and comma-separated tables, read forward: each record with the bytes that it is made of."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.catalog.forward import chunks_of
from engine.errors import RecipeError
from engine.storage import Location
from engine.storage.location import explained

_SEPARATORS = {"tsv": "\t", "csv": ","}
#: A longer line is of no table; csv's own limit for a field is 128 KiB.
_LONGEST_LINE = 16 * 2**20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Record:
    """A record of a table.

    Attributes:
        start: its first byte in the file.
        data: its bytes, with the line's end; those of a quoted field may hold several lines.
        line: the number of its first line, from 1.
        fields: its values.
    """

    start: int
    data: bytes
    line: int
    fields: list[str]


def is_table(name: str) -> bool:
    """Whether a file name has the ending of a table."""
    return "." in name and name.rpartition(".")[2].lower() in _SEPARATORS


def read_records(place: Location) -> Iterator[Record]:
    """The records of a table, the first with its columns' names; blank lines are passed over.

    Quotes mean what they mean to pandas, and so to open_clip: a field that begins with one ends
    with one, may hold line ends and separators, and holds quotes doubled.

    Raises:
        RecipeError: what stands there is no table, or a quote is never closed.
        StorageError: the file cannot be read.
    """
    fs, path = place.resolve()
    with explained(place), fs.open_input_file(path) as file:
        feed = _Feed(place, _lines(chunks_of(file)))
        start, line, data = 0, 1, b""
        try:
            for fields in csv.reader(feed, delimiter=_separator(place)):
                data = feed.take()
                if fields:
                    yield Record(start, data, line, fields)
                start, line = start + len(data), line + max(1, data.count(b"\n"))
        except csv.Error as error:
            raise _unclosed(place, line, str(error)) from error
        if _is_open(data.removeprefix(_BOM) if len(data) == start else data, _separator(place)):
            raise _unclosed(place, line - max(1, data.count(b"\n")), "it ends with the file")


def parse_record(place: Location, data: bytes) -> list[str]:
    """The values of a record's bytes, as `read_records` gave them; nothing where they are none."""
    lines = map(_text, _lines([data]))
    return next(csv.reader(lines, delimiter=_separator(place)), [])


class _Feed:
    """Lines as text, one at a time as csv's reader asks for them, and the bytes it has asked for."""

    def __init__(self, place: Location, lines: Iterator[bytes]) -> None:
        self._place, self._lines, self._taken = place, lines, list[bytes]()

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._lines, 1):
            if len(line) > _LONGEST_LINE:
                raise _unclosed(self._place, number, f"it is longer than {_LONGEST_LINE // 2**20} MiB")
            self._taken.append(line)
            yield _text(line.removeprefix(_BOM) if number == 1 else line)

    def take(self) -> bytes:
        """The bytes since the last call."""
        data = b"".join(self._taken)
        self._taken.clear()
        return data


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their ends; one that is too long comes as it is so far, once it is known to be."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if len(rest) > _LONGEST_LINE:
            break
    if rest:
        yield rest


def _text(line: bytes) -> str:
    """A line as text; a carriage return within it, which csv's reader refuses, is a space."""
    text = line.decode("utf-8", "replace")
    return text if "\r" not in text else text.rstrip("\r\n").replace("\r", " ") + "\n"


def _separator(place: Location) -> str:
    return _SEPARATORS[place.name.rpartition(".")[2].lower()]


def _is_open(data: bytes, separator: str) -> bool:
    """Whether a quote is open at the end of a record."""
    try:
        for _ in csv.reader(map(_text, _lines([data])), delimiter=separator, strict=True):
            pass
    except csv.Error as error:
        return "end of data" in str(error)
    return False


def _unclosed(place: Location, line: int, reason: str) -> RecipeError:
    return RecipeError(
        f"images.uri: {place.uri}: what begins in line {line:,} is no row of a table ({reason}); a field "
        'that begins with a quote must end with one, and quotes within it are doubled: "He said ""no"""'
    )
