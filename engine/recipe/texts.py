"""Which texts of an image a setting means: those it came with, mined ones, or a field of its record."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator

from engine.schema import LEVELS

#: Before the name of a field of the source's records, which the catalog keeps in its column `extra`.
FIELD: Final = "field:"


def field_of(name: str) -> str | None:
    """The field that `field:NAME` means; None where `name` means none."""
    return name.removeprefix(FIELD) if name.startswith(FIELD) and name.strip() != FIELD else None


def source_of(captions: str) -> str:
    """Which of `embed.texts` holds captions: a level's are among the mined ones."""
    return captions if captions == "original" or field_of(captions) else "mined"


def _field(name: str) -> str:
    if field_of(name) is None:
        raise ValueError(f"'{name}' names no field; write field:NAME, a field of the source's records")
    return name


def _text(name: str) -> str:
    if name not in ("original", "mined") and field_of(name) is None:
        raise ValueError(f"'{name}' is not known; write original, mined, or field:NAME")
    return name


def _captions(name: str) -> str:
    if name not in ("original", "mined", *LEVELS) and field_of(name) is None:
        raise ValueError(f"'{name}' is not known; write original, mined, {', '.join(LEVELS)}, or field:NAME")
    return name


#: A field of the source's records: `field:NAME`.
FieldName = Annotated[str, AfterValidator(_field)]
#: Captions that came with the images, mined ones, or the text or texts in a field.
Text = Annotated[str, AfterValidator(_text)]
#: The same, or the mined ones of one level. Of mined captions those count that passed their checks.
Captions = Annotated[str, AfterValidator(_captions)]
