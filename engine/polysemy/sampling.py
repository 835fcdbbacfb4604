"""Farthest-point sampling: the rows that cover a map most evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: Points whose distances are computed at once.
_BLOCK = 2**20


@dataclass(frozen=True)
class Sample:
    """Rows in the order in which they were chosen.

    Attributes:
        rows: (count,), int64.
        distances: (count,), float64: how far each was from those chosen before it; infinite for
            the first. The sequence never increases.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]


def farthest_points(points: NDArray[Any], count: int, device: str = "cpu") -> Sample:
    """Choose rows greedily, each time the one farthest from all that were chosen (METHODS B7).

    The first is the row nearest the centroid: the paper names no start, and this one needs no
    seed. Ties go to the lower row. Euclidean distances, in float64; count x n of them. Beside the points
    it takes 8 (d + 2) bytes for each, and some megabytes.

    Args:
        points: (n, d) coordinates, such as a 2-D UMAP.
        count: how many rows to choose, from 1 to n.
        device: where the distances are computed, as torch names it.

    Raises:
        ValueError: `count` is out of range, or a coordinate is not finite.
    """
    if not 1 <= count <= len(points):
        raise ValueError(f"{count} rows cannot be chosen of {len(points)}")
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not finite: leave out rows that have no place on the map")
    # Columns apart: one pass over each is what the memory can feed fastest.
    columns = torch.as_tensor(np.ascontiguousarray(points.T), dtype=torch.float64, device=device)
    nearest = torch.full_like(columns[0], torch.inf)
    _lower(nearest, columns, columns.mean(dim=1))
    chosen = _first(-nearest)
    rows, squares = [chosen], [float("inf")]
    nearest.fill_(torch.inf)
    for _ in range(count - 1):
        _lower(nearest, columns, columns[:, chosen])
        nearest[chosen] = -1  # chosen rows are out, also among duplicates
        chosen = _first(nearest)
        rows.append(chosen)
        squares.append(float(nearest[chosen]))
    return Sample(np.array(rows), np.sqrt(np.array(squares)))


def _lower(nearest: torch.Tensor, columns: torch.Tensor, point: torch.Tensor) -> None:
    """Take into `nearest` the squared distance of every point (a column each) to one point, in blocks."""
    total, square = torch.empty_like(nearest[:_BLOCK]), torch.empty_like(nearest[:_BLOCK])
    for start in range(0, len(nearest), _BLOCK):
        block = nearest[start : start + _BLOCK]
        sums, squares = total[: len(block)].zero_(), square[: len(block)]
        for column, value in zip(columns, point, strict=True):
            torch.sub(column[start : start + _BLOCK], value, out=squares)
            sums += squares.square_()
        torch.minimum(block, sums, out=block)


def _first(values: torch.Tensor) -> int:
    """The first of the largest: torch's own argmax promises no order among equals."""
    if values.device.type == "cpu":
        return int(values.numpy().argmax())
    return int((values == values.max()).nonzero()[0])
