"""What comes with an image as text: captions and extra fields."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import SampleError


def parse_extra(text: str) -> dict[str, Any]:
    """The fields of a JSON text; what is no object, or not valid, is kept under `json`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    return value if isinstance(value, dict) else {"json": value}


def interpret(texts: dict[str, str]) -> tuple[list[str], dict[str, Any]]:
    """Captions and extra fields of the texts beside an image, by their endings.

    `txt` is one caption. The fields of `json` are extra; without `txt`, its `captions` or
    `caption` are the captions. Any other ending is an extra field of that name.
    """
    captions = captions_of(texts.get("txt"))
    extra: dict[str, Any] = parse_extra(texts["json"]) if "json" in texts else {}
    for name in ("captions", "caption"):
        if not captions and (found := captions_of(extra.get(name))):
            captions = found
            del extra[name]
    others = {ending: text.strip() for ending, text in texts.items() if ending not in ("txt", "json")}
    return captions, {**others, **extra}


def jsonable(value: Any) -> Any:
    """The value as JSON knows it: no NaN, and dates or decimals as text."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def captions_of(value: Any) -> list[str]:
    """A caption or a list of captions without surrounding space; empty ones are none."""
    items = value if isinstance(value, list | tuple) else [value]
    return [item.strip() for item in items if isinstance(item, str) and item.strip()]


def field_value(extra: str | None, name: str) -> Any:
    """A field of a sample's column `extra`; None where it is not there."""
    return parse_extra(extra).get(name) if extra else None


def texts_in(extra: str | None, name: str) -> list[str]:
    """The text, or the texts in order, of a field of a sample's column `extra`.

    A field that is missing, null or blank has none. In a list what is null is an empty text, so that
    the others keep their places.

    Raises:
        SampleError: the field holds something else.
    """
    value = field_value(extra, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str | None):
            held = f"a list with {_kind(item)}" if isinstance(value, list) else _kind(item)
            raise SampleError(f"field '{name}' holds {held}, and neither a text nor a list of texts")
    return [(item or "").strip() for item in items]


def _kind(value: Any) -> str:
    """What JSON calls the value."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case dict():
            return "an object"
        case list():
            return "a list"
    return "null" if value is None else "a text"


def first_captions(table: pa.Table, most: int) -> tuple[pa.Table, bool]:
    """The table with at most so many captions of each image, the first ones; and whether any were cut."""
    captions = table["captions"]
    longest = pc.max(pc.list_value_length(captions)).as_py() or 0
    if longest <= most:
        return table, False
    index = table.schema.get_field_index("captions")
    kept = pc.list_slice(captions, 0, most)
    return table.set_column(index, table.schema.field(index), kept), True
