"""Reading forward through a file once: digested on the way, and decompressed where it must be."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

#: Large enough that hashing and reading run at full speed, small enough for any cache.
CHUNK = 2**20


class Hasher(Protocol):
    """What hashlib's objects do."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""


class ForwardReader:
    """A file that is read and sought forward only, over an iterator of chunks.

    Where the stream is damaged, it ends: `damage` then says why, and what came before is whole.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._start = 0  # position of the chunk
        self._position = 0
        self.damage: str | None = None

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def read(self, size: int) -> bytes:
        """Read `size` bytes; fewer only at the end."""
        begin = self._position - self._start
        data = self._chunk[begin : begin + size]
        self._position += len(data)
        if len(data) == size:
            return data
        pieces = [data]
        missing = size - len(data)
        while missing and self._advance():
            pieces.append(self._chunk[:missing])
            self._position += len(pieces[-1])
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def seek(self, position: int) -> int:
        """Go forward to a position, or to the end if that comes first."""
        while position > self._start + len(self._chunk) and self._advance():
            pass
        self._position = min(position, self._start + len(self._chunk))
        return self._position

    def drain(self) -> bool:
        """Go to the end; whether any byte on the way was not zero."""
        begin = self._position - self._start
        rest = self._chunk[begin:].strip(b"\0") != b""
        while self._advance():
            rest = rest or self._chunk.count(0) != len(self._chunk)
        self._position = self._start + len(self._chunk)
        return rest

    def _advance(self) -> bool:
        try:
            chunk = next(self._chunks, b"")
        except (zlib.error, EOFError) as error:
            self.damage = str(error) if isinstance(error, EOFError) else "damaged gzip data"
            chunk = b""
        if chunk:
            self._start += len(self._chunk)
            self._chunk = chunk
        return bool(chunk)


def chunks_of(file: pa.NativeFile, hasher: Hasher | None = None) -> Iterator[bytes]:
    """The file's bytes from here on, each chunk added to the digest."""
    while chunk := file.read(CHUNK):
        if hasher is not None:
            hasher.update(chunk)
        yield chunk


def gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress gzip, several members included, never more than a chunk's worth at a time.

    Raises:
        zlib.error: the data is damaged or is no gzip.
        EOFError: it ends too early.
    """
    inflater = zlib.decompressobj(wbits=31)  # 31: gzip, with its checksum
    for chunk in chunks:
        data = chunk
        while data:
            if inflater.eof:
                if not data.strip(b"\0"):  # padding, as tapes leave it
                    break
                inflater = zlib.decompressobj(wbits=31)
            if piece := inflater.decompress(data, CHUNK):
                yield piece
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    while not inflater.eof and (piece := inflater.decompress(inflater.unconsumed_tail, CHUNK)):
        yield piece
    if not inflater.eof:
        raise EOFError("cut short")
