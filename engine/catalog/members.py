"""The members of a tar, in one pass forward, and how the tar ended."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

#: No long name or attribute needs more; a hostile header could ask for all memory.
_MAX_HEADER = 16 * 2**20


class Readable(Protocol):
    """What a tar is read from; sought forward only."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes; fewer only at the end."""

    def seek(self, position: int, /) -> int:
        """Go to a position ahead."""

    def tell(self) -> int:
        """The position in bytes."""


@dataclass(frozen=True)
class Member:
    """A member: its name, where its bytes lie in the (decompressed) stream, whether it has any."""

    name: str
    offset: int
    size: int
    is_file: bool


class TarMembers:
    """Iterates over the members; `tarfile` parses the headers (ustar, GNU and pax names alike).

    `tarfile` takes a damaged header for the end of the tar, so the last block it saw is checked:
    after the iteration `ending` is None for a tar that ended as it should, else it says how it
    ended (to be read after the word "tar"); `closed` is whether the mark of the end was there.
    """

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._block = b""
        self._found = False
        self.ending: str | None = None
        self.closed = False

    def __iter__(self) -> Iterator[Member]:
        try:
            with tarfile.TarFile(
                fileobj=self,  # type: ignore[arg-type]
                mode="r",
                encoding="utf-8",
                errors="surrogateescape",
            ) as tar:
                while (info := tar.next()) is not None:
                    self._found = True
                    # tarfile keeps every member for a later look-up by name; nobody looks.
                    tar.members.clear()  # type: ignore[attr-defined]
                    is_file = info.isreg() and not info.issparse()
                    yield Member(info.name, info.offset_data, info.size, is_file)
            self._judge_silent_end()
        except (tarfile.TarError, ValueError, OverflowError, RecursionError):
            self._judge_error()

    def body(self, member: Member) -> bytes:
        """The member's bytes; fewer than its size where the tar is cut. Only before going on."""
        self._file.seek(member.offset)
        return self._file.read(member.size)

    def read(self, size: int) -> bytes:
        """For tarfile: read, and remember the block."""
        self._block = self._file.read(size) if size <= _MAX_HEADER else b""
        return self._block

    def seek(self, position: int) -> int:
        """For tarfile: go forward."""
        return self._file.seek(position)

    def tell(self) -> int:
        """For tarfile: the position."""
        return self._file.tell()

    def _judge_silent_end(self) -> None:
        whole = len(self._block) == tarfile.BLOCKSIZE
        if whole and not self._block.strip(b"\0"):
            self.closed = True
        elif self._block:
            self.ending = "damaged (a header is not valid)" if whole else "cut short"

    def _judge_error(self) -> None:
        if not self._found and self._file.tell() <= tarfile.BLOCKSIZE:
            self.ending = "is no tar file" if self._file.tell() else "is empty (zero bytes)"
        else:
            whole = len(self._block) == tarfile.BLOCKSIZE
            self.ending = "damaged (a header is not valid)" if whole else "cut short"
