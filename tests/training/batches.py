"""Batches of made-up vectors, comparison with naive references, and a look at what is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.training.method import Targets


def vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers, the same for every dtype."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit_vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Directions."""
    return torch.nn.functional.normalize(vectors(*shape, seed=seed), dim=-1).to(dtype)


def targets(owners: Sequence[int], weights: Sequence[float] | None = None, seed: int = 5) -> Targets:
    """Of pairs of these images, of one weight where none are given."""
    count = len(owners)
    told = torch.ones(count) if weights is None else torch.tensor(weights)
    return Targets(torch.tensor(owners), torch.full((count,), -1), told.float(), seed)


def cuts(count: int) -> Iterator[list[slice]]:
    """Some ways to cut so many rows, one of them with a worker that has none."""
    for stops in ([count], [1, count], [count // 2, count // 2, count], list(range(1, count + 1))):
        yield [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def same(
    value: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor, tolerance: float = 1e-9
) -> None:
    """Assert equal values and equal gradients to all inputs."""
    found = []
    for function in (value, reference):
        own = [each.detach().clone().requires_grad_() for each in inputs]
        result = function(*own)
        # A weight for each element, so that gradients of a matrix cannot cancel.
        total = (result * torch.linspace(1, 2, result.numel(), dtype=result.dtype).view_as(result)).sum()
        gradients = torch.autograd.grad(total, own, allow_unused=True, materialize_grads=True)
        found.append((result.detach(), *gradients))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


class Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor has that is made while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return made
