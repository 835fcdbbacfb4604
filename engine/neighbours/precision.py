"""The precision in which products are looked at first, and by how much they may be off in it."""

from __future__ import annotations

import time
from functools import cache

import torch


def error_of(queries: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """The most by which the product of each query and a unit row may be off, (n,), before it is rounded.

    By Cauchy and Schwarz: what the query lost in `low` precision, what a row may lose (half of the
    type's `eps`), and the roundings of a sum in float32.
    """
    lost = torch.linalg.vector_norm(queries.float() - low.float(), dim=1)
    unit = 0.0 if low.dtype == torch.float32 else torch.finfo(low.dtype).eps / 2
    error: torch.Tensor = lost + unit + (queries.shape[1] + 2) * 2.0**-23
    return error


@cache
def coarse_dtype(device: str) -> torch.dtype:
    """The type in which products are fastest: bfloat16 where the device multiplies it in hardware.

    The result does not depend on it, so it is found by trying.
    """
    if device != "cpu":
        return torch.bfloat16
    seconds = {dtype: _seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    # Only where much faster: more candidates must be scored again.
    much = seconds[torch.bfloat16] < seconds[torch.float32] / 2
    return torch.bfloat16 if much else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    left = torch.ones(512, 512, dtype=dtype)
    taken = []
    for _ in range(4):  # the first is slow
        started = time.perf_counter()
        left @ left
        taken.append(time.perf_counter() - started)
    return min(taken)
