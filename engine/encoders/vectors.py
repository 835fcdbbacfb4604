"""From a model's outputs to vectors as they are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.encoders.protocol import Card
from engine.errors import RecipeError

#: How far from 1 a vector's length may be that is compared by cosines, computed in half precision at worst.
_OFF = 0.01
#: How far it may be that was scaled in float32.
_ROUNDING = 1e-6


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


def checked(name: str, vectors: Any, count: int, card: Card, of_texts: bool) -> NDArray[np.float32]:
    """What an encoder has given for so many pictures or texts, if it is what its card says.

    One of somebody's own may give anything. What has no direction becomes NaN; what was scaled to
    length 1 in half precision is scaled again, since cosines are taken for products from here on.

    Raises:
        RecipeError: it has another shape, or vectors of other lengths than 1 where cosines are compared.
    """
    several = card.text_vectors if of_texts else card.vectors
    shape = (count, card.width) if several == 1 else (count, several, card.width)
    found = np.asarray(vectors, np.float32)
    if found.shape != shape:
        raise RecipeError(f"encoder '{name}': gives vectors of shape {found.shape}, and says {shape}")
    if not card.similarity.unit:
        return found
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    off = np.isfinite(length) & (length > 0) & (np.abs(length - 1) > _OFF)
    if off.any():
        raise RecipeError(
            f"encoder '{name}': gives a vector of length {float(length[off][0]):.4g}, and is compared by "
            "cosines; give its vectors length 1, or say how else they are compared: similarity = "
            "DotProduct() (engine.encoders.own_similarity)"
        )
    there = np.isfinite(length) & (length > 0)
    scale = np.where(np.abs(length - 1) > _ROUNDING, length, np.float32(1))
    return np.where(there, found / np.where(there, scale, np.float32(1)), np.float32(np.nan))
