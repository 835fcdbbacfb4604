"""Which samples are drawn: a seeded sample that any reader of any part finds alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: How many more are read than are wanted: a factor, and a few.
_SPARE, _MORE = 1.1, 200


def lots(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A lot for each sample, by its id and the seed alone: those with the lowest are drawn.

    So a sample does not depend on the order or the size of parts, and of a larger one the smaller
    one is a part.

    Args:
        numbers: (n,), uint64, ids as numbers.
        seed: any integer.
    """
    # Each round of splitmix64 is a bijection: different samples never share a lot.
    mixed = _mix(numbers ^ _mix(np.array([seed % 2**64], np.uint64)))
    return np.asarray(mixed, np.uint64)


def drawn(numbers: NDArray[np.uint64], seed: int, count: int) -> NDArray[np.int64]:
    """The rows of the `count` samples with the lowest lots, lowest first."""
    lot = lots(numbers, seed)
    lowest = np.argpartition(lot, count)[:count] if count < len(lot) else np.arange(len(lot))
    return np.asarray(lowest[np.argsort(lot[lowest])], np.int64)


def share_of(count: int, rows: int) -> float:
    """The share to read of so many samples so that `count` are left: some have no vector."""
    return min(1.0, (_SPARE * count + _MORE) / max(rows, 1))


def bar(share: float) -> np.uint64:
    """The lot below which about this share of all samples lies."""
    return np.uint64(min(max(share, 0.0), 1.0) * float(2**64 - 2**12))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(values ^ (values >> np.uint64(31)))
