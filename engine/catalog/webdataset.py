"""WebDataset tars: consecutive members with the same key are one sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.catalog.extra import interpret
from engine.catalog.members import Member, TarMembers
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import IMAGE_ENDINGS

#: What belongs to an image as text is small; larger members are data for something else.
_MAX_TEXT = 2**20

NO_IMAGE = "no image in the sample"


@dataclass
class Group:
    """The members of one sample: their bodies where they are small, by ending."""

    key: str
    images: list[tuple[str, Member]] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    endings: set[str] = field(default_factory=set)


def is_tar(name: str) -> bool:
    """Whether a file name is that of a tar, compressed or not."""
    return name.lower().endswith((".tar", ".tar.gz", ".tgz"))


def collect(members: TarMembers, uri: str, rows: CatalogRows) -> None:
    """Add the samples of a tar to the rows.

    Captions are the `.txt` member, or else `caption` or `captions` of the `.json` member. The
    rest of the JSON and every other small text member become extra fields; other members, and
    names without an ending, are passed over.
    """
    for group in _groups(members):
        _add(group, uri, rows)


def _groups(members: TarMembers) -> Iterator[Group]:
    """Groups consecutive members; a repeated ending starts a new sample of the same key."""
    group: Group | None = None
    for member in members:
        split = _split(member.name)
        if split is None:
            continue
        key, ending = split
        if group is None or group.key != key or ending in group.endings:
            if group is not None:
                yield group
            group = Group(key)
        group.endings.add(ending)
        _take(group, ending, member, members)
    if group is not None:
        yield group


def _take(group: Group, ending: str, member: Member, members: TarMembers) -> None:
    if ending.rpartition(".")[2] in IMAGE_ENDINGS:
        group.images.append((ending, member))
    elif member.is_file and member.size <= _MAX_TEXT:
        body = members.body(member)
        if len(body) == member.size:
            group.texts[ending] = body


def _split(name: str) -> tuple[str, str] | None:
    """Key and ending: the path up to the first dot of its last component, and what follows it."""
    folder, slash, base = name.rpartition("/")
    stem, dot, ending = base.partition(".")
    return (f"{folder}{slash}{stem}", ending.lower()) if stem and dot and ending else None


def _add(group: Group, uri: str, rows: CatalogRows) -> None:
    captions, extra = _interpret(group, rows)
    if not group.images:
        rows.add(group.key, uri, None, captions, extra, error=NO_IMAGE)
        return
    # `a.jpg` before `a.mask.png`: the plainest ending is the picture, the others belong to it.
    ending, image = min(group.images, key=lambda found: found[0].count("."))
    if sum(other.count(".") == ending.count(".") for other, _ in group.images) > 1:
        rows.note("more than one image in a sample, the first is used", group.key)
    if image.is_file:
        rows.add(group.key, uri, (image.offset, image.size), captions, extra)
    else:
        rows.add(group.key, uri, None, captions, extra, error="image is a link or a sparse file in its tar")


def _interpret(group: Group, rows: CatalogRows) -> tuple[list[str], dict[str, Any]]:
    """Captions and extra fields of a sample's text members."""
    texts: dict[str, str] = {}
    for ending, body in group.texts.items():
        try:
            texts[ending] = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            if ending in ("txt", "json"):
                rows.note(f"a .{ending} member is not UTF-8 text and passed over", group.key)
    return interpret(texts)
