"""From a model's outputs to vectors as they are kept."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def unit_rows(outputs: torch.Tensor) -> NDArray[np.float32]:
    """Directions of the last axis as float32; NaN throughout where there is none.

    The length is taken in float32 whatever the model computes in: in float16 the squares of a
    thousand components may exceed its largest number.
    """
    rows = outputs.float()
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    unit = torch.where((length > 0) & torch.isfinite(length), rows / length, torch.nan)
    return unit.cpu().numpy()


def finite_rows(outputs: torch.Tensor) -> NDArray[np.float32]:
    """Vectors of any length as float32; NaN throughout an item, (k, d), where a number is not finite."""
    rows = outputs.float()
    finite = torch.isfinite(rows).all(dim=tuple(range(1, rows.ndim)), keepdim=True)
    return torch.where(finite, rows, torch.nan).cpu().numpy()
