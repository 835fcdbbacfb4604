"""Many small ranges of a file in few reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

#: Reading across a gap of this size costs less than another request, on disks and object stores.
MAX_GAP = 128 * 2**10
#: Beyond it a request gains nothing, while more of them run at the same time.
MAX_SPAN = 16 * 2**20
#: Requests in flight on one file.
THREADS = 4

_EMPTY: Final = pa.py_buffer(b"")


@dataclass(frozen=True)
class Span:
    """A stretch of a file that is read at once, and which ranges (by index) lie in it."""

    start: int
    end: int
    ranges: tuple[int, ...]


def read_ranges(file: pa.NativeFile, ranges: Sequence[tuple[int, int]]) -> list[pa.Buffer]:
    """Read (offset, size) ranges of a file; a range past the end yields fewer bytes.

    Pieces share the memory of the span they were read in, where they are most of it.
    """
    pieces: list[pa.Buffer] = [_EMPTY] * len(ranges)
    with ThreadPoolExecutor(THREADS) as threads:
        spans = list(merge(ranges))
        for span, data in zip(spans, threads.map(lambda s: _read(file, s), spans), strict=True):
            # Few images out of a wide span would hold all of it while they are decoded.
            apart = 2 * sum(ranges[index][1] for index in span.ranges) < data.size
            for index in span.ranges:
                offset, size = ranges[index]
                begin = min(offset - span.start, data.size)
                piece = data.slice(begin, min(size, data.size - begin))
                pieces[index] = pa.py_buffer(piece.to_pybytes()) if apart else piece
    return pieces


def merge(ranges: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """Join neighbouring ranges into spans, whatever their order."""
    order = sorted(range(len(ranges)), key=lambda index: ranges[index])
    members: list[int] = []
    start = end = 0
    for index in order:
        offset, size = ranges[index]
        if members and (offset - end > MAX_GAP or max(end, offset + size) - start > MAX_SPAN):
            yield Span(start, end, tuple(members))
            members = []
        if not members:
            start = end = offset
        members.append(index)
        end = max(end, offset + size)
    if members:
        yield Span(start, end, tuple(members))


def _read(file: pa.NativeFile, span: Span) -> pa.Buffer:
    # A stream of its own, since the file's position is not; into Arrow's memory: see `Location.read_buffer`.
    size = span.end - span.start
    return file.get_stream(span.start, size).read_buffer(size)
