"""Farthest-point sampling: the rows that cover a map most evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


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
    seed. Ties go to the lower row. Euclidean distances, in float64; count x n of them.

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
    nearest = _squared(columns, columns.mean(dim=1))
    chosen = int(nearest.argmin())
    rows, squares = [chosen], [float("inf")]
    nearest = _squared(columns, columns[:, chosen])
    nearest[chosen] = -1  # chosen rows are out, also among duplicates
    for _ in range(count - 1):
        # torch's argmax promises no order among equals; numpy's takes the first.
        chosen = int(nearest.argmax()) if device != "cpu" else int(nearest.numpy().argmax())
        rows.append(chosen)
        squares.append(float(nearest[chosen]))
        torch.minimum(nearest, _squared(columns, columns[:, chosen]), out=nearest)
        nearest[chosen] = -1
    return Sample(np.array(rows), np.sqrt(np.array(squares)))


def _squared(columns: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """The squared distance of every point (a column each) to one point."""
    total = torch.zeros(columns.shape[1], dtype=columns.dtype, device=columns.device)
    for column, value in zip(columns, point, strict=True):
        total += (column - value) ** 2
    return total
