"""Reading many small files: as fast as a disk gives them, or many at once where each takes a round trip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

_THREADS = 32
#: Items that a thread takes at a time: to hand them over one by one takes longer than to read them.
_TAKES = 64
#: Seconds an item up to which one thread is faster: those of Python wait for each other.
_QUICK_S = 0.0005


def each_of(function: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[Found]:
    """What a function that reads storage gives of each item, in the items' order.

    A disk answers in microseconds, an object store or a network's filesystem in milliseconds. Which it
    is shows with the first items, and from the first slow ones on threads take the rest.
    """
    done, slow = 0, False
    while done < len(items) and not slow:
        found, until = list[Found](), time.perf_counter() + _TAKES * _QUICK_S
        while len(found) < _TAKES and done < len(items) and not slow:
            found.append(function(items[done]))
            done, slow = done + 1, time.perf_counter() > until
        yield from found
    yield from _in_threads(function, items[done:])


def _in_threads(function: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[Found]:
    size = max(1, min(_TAKES, len(items) // _THREADS))
    pieces = [items[start : start + size] for start in range(0, len(items), size)]

    def work(piece: Sequence[Item]) -> list[Found]:
        return [function(item) for item in piece]

    with ThreadPoolExecutor(_THREADS) as threads:
        for found in threads.map(work, pieces):
            yield from found
