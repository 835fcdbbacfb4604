"""The workers of one training run, seen from one of them; without torch.distributed there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

#: Elements that are summed at once: large enough for any network, small beside a model.
_BUCKET = 16 * 2**20


@dataclass(frozen=True)
class World:
    """One worker among `size`.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: on which it computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this worker writes and reports for all."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Which of `count` rows are this worker's: consecutive, and as even as can be."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all workers.

        They travel in one order and in fixed buckets, so that the same numbers give the same
        sums in every run (DDP's buckets change after its first step, and with them the order
        of addition).
        """
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def gather(self, local: Tensor, rows: slice, count: int) -> Tensor:
        """(count, ...): every worker's rows of a batch, without gradient; `rows` are this worker's."""
        if self.size == 1:
            return local.detach()
        whole = local.new_zeros((count, *local.shape[1:]))
        whole[rows] = local.detach()
        dist.all_reduce(whole)
        return whole

    def share(self, value: Any) -> Any:
        """What the first worker says, for all."""
        if self.size == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, src=0)
        return told[0]

    def wait(self) -> None:
        """Until all workers are here."""
        if self.size > 1:
            dist.barrier()


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Consecutive tensors of one type, up to `_BUCKET` elements together."""
    buckets: list[list[Tensor]] = []
    held = 0
    for tensor in tensors:
        if not buckets or held + tensor.numel() > _BUCKET or buckets[-1][0].dtype != tensor.dtype:
            buckets.append([])
            held = 0
        buckets[-1].append(tensor)
        held += tensor.numel()
    return buckets
