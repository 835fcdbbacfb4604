"""From a model's outputs to unit vectors."""

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
