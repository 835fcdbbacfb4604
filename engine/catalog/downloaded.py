"""Images that were downloaded: which file is which record's, by its id or by its URL."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from engine.catalog.files import without_ending
from engine.catalog.listing import FoundFile
from engine.errors import RecipeError


@dataclass(frozen=True)
class Download:
    """A record's id, and the URL of its image."""

    id: str
    url: str

    @property
    def names(self) -> set[str]:
        """What a downloader may call the file: the last part of the URL, as it stands or decoded."""
        last = re.split(r"[?#]", self.url, maxsplit=1)[0].rpartition("/")[2]
        return {last, unquote(last)} - {""}


def match_downloads(records: Sequence[Download], found: Sequence[FoundFile]) -> dict[int, FoundFile]:
    """The file of each record that has one, by the record's position.

    A file is named by a record's id (`7.jpg`) or by the last part of its URL. Records of one URL
    share a file, unless each has its own. Where every file that fits is named by an id, a URL that
    ends like another record's file (`.../7.jpg`) says nothing.

    Raises:
        RecipeError: a file fits records of different URLs, or a record has several files.
    """
    by_id: dict[str, list[int]] = defaultdict(list)
    by_url: dict[str, list[int]] = defaultdict(list)
    for position, record in enumerate(records):
        by_id[record.id].append(position)
        for name in record.names:
            by_url[name].append(position)
    named = [(file, by_id.get(without_ending(file.info.base_name), [])) for file in found]
    if any(not owners and file.info.base_name in by_url for file, owners in named):
        named = [(file, [*owners, *by_url.get(file.info.base_name, [])]) for file, owners in named]
    _refuse_mistakable(records, named)
    there: dict[int, FoundFile] = {}
    for file, owners in named:
        for position in owners:
            if there.setdefault(position, file) is not file:
                places = f"{there[position].path} and {file.path}"
                raise RecipeError(
                    f"images.uri: the image of {records[position].id} is in {places}; keep one of them"
                )
    of_url = {records[position].url: file for position, file in there.items() if records[position].url}
    shared = {n: of_url[record.url] for n, record in enumerate(records) if record.url in of_url}
    return shared | there


def _refuse_mistakable(records: Sequence[Download], named: Sequence[tuple[FoundFile, Sequence[int]]]) -> None:
    """Every file must be of one image: a poem with another's would be measured, and nobody would know."""
    owners = {file.path: _first_of_each_url(records, positions) for file, positions in named}
    mistakable = {path: ids for path, ids in owners.items() if len(ids) > 1}
    if mistakable:
        path, ids = next(iter(mistakable.items()))
        raise RecipeError(
            f"images.uri: {path} may be the image of {ids[0]} or of {ids[1]}, whose URLs differ "
            f"({len(mistakable)} such files); name all images by their ids, or remove those that fit several"
        )


def _first_of_each_url(records: Sequence[Download], positions: Sequence[int]) -> list[str]:
    ids: dict[str, str] = {}
    for position in positions:
        ids.setdefault(records[position].url, records[position].id)
    return list(ids.values())
