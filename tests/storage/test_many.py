from __future__ import annotations

import threading
import time

import pytest

from engine.errors import StorageError
from engine.storage.many import each_of


@pytest.mark.parametrize("count", [0, 1, 31, 64, 65, 5_000])
@pytest.mark.parametrize("slow", [None, 0, 3, 100])
def test_every_item_once_and_in_order(count: int, slow: int | None) -> None:
    """Whether the storage is quick, slow from the start, or becomes it."""

    def read(item: int) -> str:
        time.sleep(0.04 if item == slow else 0)
        return str(item)

    assert list(each_of(read, range(count))) == [str(item) for item in range(count)]


def test_slow_ones_are_waited_for_together() -> None:
    """Each of these waits for the others: one after the other they would wait for ever."""
    together = threading.Barrier(32, timeout=60)

    def read(item: int) -> int:
        return together.wait() if item else int(time.sleep(0.1) or 0)

    assert sorted(each_of(read, range(33)))[1:] == list(range(32))


@pytest.mark.parametrize("slow", [True, False])
def test_what_fails_is_raised(slow: bool) -> None:
    def read(item: int) -> int:
        time.sleep(0.04 if slow and item == 0 else 0)
        if item == 700:
            raise StorageError("s3://b/700: no such bucket")
        return item

    with pytest.raises(StorageError, match="s3://b/700"):
        list(each_of(read, range(1_000)))
