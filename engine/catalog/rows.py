"""The rows of one shard's catalog, as a scan finds them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from engine.catalog.extra import jsonable
from engine.catalog.shard import MAX_IMAGE_BYTES
from engine.schema import CATALOG, storable
from engine.storage import digest_of


@dataclass
class CatalogRows:
    """Collects samples; gives each its id, and counts what is worth a warning.

    A sample's id is the digest of `space` (the shard's name; nothing for files, whose path is
    unique in the source), of what identifies it there, and of how often that came before. So it is
    unique for duplicate keys too, and does not move when other samples come or go.
    """

    space: str
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in CATALOG.names})
    notes: dict[str, list[str]] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        key: str,
        uri: str,
        place: tuple[int, int] | None,
        captions: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        error: str | None = None,
        identity: str | None = None,
    ) -> None:
        """Add a sample.

        Args:
            key: the source's own name for it.
            uri: the file that holds the image.
            place: offset and size of the image, or None if there is none.
            captions: the source's captions.
            extra: every other field, as JSON values.
            error: why it cannot be used.
            identity: what its id derives from, if not its key.
        """
        key, identity = storable(key), storable(identity or key)
        if place is not None and error is None:
            error = _refused(place[1])
        offset, size = place if place is not None and error is None else (None, 0)
        text = self._text_of(extra, key) if extra else None
        values = (
            digest_of(self.space, identity, str(self._seen[identity])),
            key,
            uri,
            offset,
            size,
            [storable(caption) for caption in captions],
            storable(text) if text else None,
            error,
        )
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)
        self._seen[identity] += 1

    def _text_of(self, extra: Mapping[str, Any], key: str) -> str | None:
        try:
            return json.dumps(jsonable(extra), ensure_ascii=False)
        except RecursionError:
            self.note("extra fields nested too deeply to keep", key)
            return None

    def fail_last(self, error: str) -> None:
        """Turn the last sample into an error row."""
        self.columns["offset"][-1], self.columns["size"][-1], self.columns["error"][-1] = None, 0, error

    def note(self, what: str, where: str = "") -> None:
        """Keep something for a warning, and where it was met."""
        self.notes.setdefault(what, []).append(where)

    def to_table(self) -> pa.Table:
        """The rows, schema CATALOG."""
        return pa.table(self.columns, schema=CATALOG)

    def warnings(self, shard: str) -> tuple[str, ...]:
        """One line for each kind of thing noted, duplicate keys among them."""
        lines = [f"{shard}: {what}{_times(places)}" for what, places in self.notes.items()]
        keys = Counter(self.columns["key"])
        twice = [key for key, count in keys.items() if count > 1]
        if twice:
            lines.append(
                f"{shard}: {len(twice)} keys are used more than once, the first is {twice[0]!r}; all their "
                "samples are kept, each with an id of its own"
            )
        if not keys:
            lines.append(f"{shard}: holds no samples")
        return tuple(lines)


def _refused(size: int) -> str | None:
    if size == 0:
        return "zero bytes"
    if size > MAX_IMAGE_BYTES:
        return f"larger than {MAX_IMAGE_BYTES // 2**20} MiB"
    return None


def _times(places: list[str]) -> str:
    """How often, and where first; nothing for what happened once to the shard as a whole."""
    first = f", the first is {places[0]!r}" if places[0] else ""
    return f" ({len(places)} times{first})" if len(places) > 1 or first else ""
