"""Scanning a tar shard: digest, samples, and how a damaged one is reported."""

from __future__ import annotations

import hashlib

import pyarrow as pa

from engine.catalog.forward import ForwardReader, chunks_of, gunzipped
from engine.catalog.members import TarMembers
from engine.catalog.rows import CatalogRows
from engine.catalog.shard import Shard
from engine.catalog.webdataset import NO_IMAGE, collect
from engine.storage import Location, digest_of
from engine.storage.fingerprint import DIGEST_BYTES
from engine.storage.location import explained


def scan_tar(shard: Shard, content: bool) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Read a tar once from start to end, or only its headers where `content` is False.

    A compressed tar is read through in either case. A damaged tar gives the samples before the
    damage and at least one error row.

    Returns:
        The catalog table, the shard's digest, and warnings.

    Raises:
        StorageError: the file cannot be read.
    """
    place = Location(shard.uri)
    fs, path = place.resolve()
    rows = CatalogRows(shard.name)
    with explained(place), fs.open_input_file(path) as file:
        if content or shard.format == "tar.gz":
            digest = _read_through(file, shard, rows)
        else:
            members = TarMembers(file)
            collect(members, shard.uri, rows)
            _report_ending(rows, shard, file.size(), members.ending)
    if not content:
        entries = zip(*(rows.columns[name] for name in ("key", "offset", "size")), strict=True)
        digest = digest_of(shard.state, *(f"{key}\0{offset}\0{size}" for key, offset, size in entries))
    return rows.to_table(), digest, rows.warnings(shard.name)


def _read_through(file: pa.NativeFile, shard: Shard, rows: CatalogRows) -> str:
    """Collect the samples in one pass over all bytes; returns the digest of these."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    raw = chunks_of(file, hasher)
    reader = ForwardReader(gunzipped(raw) if shard.format == "tar.gz" else raw)
    members = TarMembers(reader)
    collect(members, shard.uri, rows)
    more = reader.drain()
    for _ in raw:  # what follows damaged gzip data counts for the digest too
        pass
    ending = members.ending
    if reader.damage and not members.closed:
        ending = reader.damage if file.size() else "is empty (zero bytes)"
    _report_ending(rows, shard, reader.tell(), ending)
    if members.closed and more:
        _lose(rows, shard, "goes on after its end (joined by cat?), which is not read")
    return hasher.hexdigest()


def _report_ending(rows: CatalogRows, shard: Shard, end: int, ending: str | None) -> None:
    """Give what a damaged tar lost an error row: the sample it ends in, or the shard itself."""
    offset, size, error = (rows.columns[name][-1:] for name in ("offset", "size", "error"))
    if offset and offset[0] is not None and offset[0] + size[0] > end:
        rows.fail_last("image lost: tar cut short")
    elif ending is not None and error == [NO_IMAGE]:
        rows.fail_last(f"image lost: tar {ending}")
    elif ending is not None:
        _lose(rows, shard, ending)
        return
    if ending is not None:
        _warn(rows, ending)


def _lose(rows: CatalogRows, shard: Shard, what: str) -> None:
    """An error row for the shard itself, since the keys of what is lost are not known."""
    rows.add(shard.name, shard.uri, None, error=f"samples lost: tar {what}")
    _warn(rows, what)


def _warn(rows: CatalogRows, what: str) -> None:
    rows.note(f"tar {what}; the samples before that are kept; restore the file and run again for the rest")
