"""Columns of vectors in stage tables, as matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: How far from 1 the square of a unit vector's length may be in the precision of its table.
_OFF = 0.02


def matrix(lists: Any, width: int, vectors: int = 1) -> NDArray[Any]:
    """(n, width), or (n, vectors, width) where there are several; a copy, zeros where a list is null.

    Args:
        lists: n fixed-size lists of numbers, or of lists of them.
        width: components of a vector.
        vectors: of each row.
    """
    flat = lists.flatten() if vectors == 1 else lists.flatten().flatten()
    rows = np.zeros((len(lists), vectors, width), flat.type.to_pandas_dtype())
    there = lists.is_valid().to_numpy(zero_copy_only=False)
    rows[there] = flat.to_numpy(zero_copy_only=False).reshape(-1, vectors, width)
    return rows[:, 0] if vectors == 1 else rows


def directions(vectors: NDArray[Any], unit: bool = True) -> NDArray[np.bool_]:
    """(n,): which rows are of unit length, as what an encoder of ours has written is.

    Args:
        vectors: (n, width) or (n, vectors, width).
        unit: whether they are to be; of any length they are numbers that are not all 0, as `matrix`
            has them where there is none.
    """
    if not unit:
        axes = tuple(range(1, vectors.ndim))
        return np.asarray(np.isfinite(vectors).all(axis=axes) & vectors.any(axis=axes))
    rows = vectors.astype(np.float32)
    squares = np.einsum("...d,...d->...", rows, rows)
    return np.asarray((np.abs(squares - 1) < _OFF).all(axis=tuple(range(1, squares.ndim))))
