"""The gradient of one step, of a batch that lies on several workers and passes the towers in pieces.

A contrastive loss compares each pair with all others, so its gradient is no sum over pieces of a batch.
It is computed in the way of Gao et al. 2021 ("Scaling deep contrastive learning batch size under memory
limited setup", section 3.2): the towers' outputs of all pairs are computed without their graphs, the
loss is differentiated with respect to the outputs, and the towers are run again, piece by piece, to
carry that gradient on to their weights. The last piece keeps its graph and is not run again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from engine.training.method import Method, Outputs, Targets
from engine.training.world import World

#: What the towers say of both sides, by side ("images", "texts") and name.
_Said = dict[tuple[str, str], Tensor]
_SIDES = ("images", "texts")


@dataclass(frozen=True)
class LocalBatch:
    """One worker's pairs of a batch of B. Tensors may lie on any device.

    Attributes:
        pixels: (b, 3, height, width), prepared images.
        tokens: (b, context length), int64.
        good: (b,), bool: false where the image could not be read. Its pixels are zeros, and the pair
            is no part of the batch.
        rows: of this worker in the whole batch, consecutive; together the workers have all B, in the
            order of their ranks.
        targets: of the whole batch.
        weight: of the batch in the gradient.
        ids: of the images of the whole batch.
    """

    pixels: Tensor
    tokens: Tensor
    good: Tensor
    rows: slice
    targets: Targets
    weight: float
    ids: tuple[str, ...]


@dataclass(frozen=True)
class StepResult:
    """The same on every worker.

    Attributes:
        loss: of the whole batch, without its weight; nan of fewer than two pairs.
        pairs: those whose images could be read.
    """

    loss: float
    pairs: int


def accumulate(
    method: Method,
    batch: LocalBatch,
    world: World,
    micro: int,
    autocast: torch.dtype | None,
    scaler: torch.amp.GradScaler | None,
) -> StepResult:
    """Set the gradient of every trained parameter to that of the whole batch's loss times its weight.

    All workers get the same, as if one had computed the joined batch at once; what a tower draws at
    random depends on the step's seed and on where its piece begins in the batch. Parameters that the
    loss does not depend on get zeros. All workers of `world` must call this together.

    Args:
        method: its trained parameters are those with `requires_grad`; older gradients are dropped.
        batch: this worker's part.
        world: the workers.
        micro: pairs that pass the towers at once, at least 1.
        autocast: the type in which the towers compute; None to leave it as it is. Their outputs are
            gathered and compared in float32 at least.
        scaler: multiplies the loss, and so the gradient; of the result's loss it is no part.

    Returns:
        The loss. If it is not finite, or fewer than two pairs are left, all gradients are None.
    """
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = None
    batch = _readable(batch, world)
    count = len(batch.targets.owners)
    if count < 2:
        return StepResult(math.nan, count)
    towers = _Towers(method, batch, micro, world.device, autocast)
    leaves = {key: _gather(value, batch.rows, count, world) for key, value in towers.see().items()}
    for (side, _), leaf in leaves.items():
        leaf.requires_grad_(leaf.is_floating_point() and side in method.sides)
    share = _share(method, leaves, batch.targets, world)
    loss = _total(share, world)
    if math.isfinite(loss):
        share = scaler.scale(share * batch.weight) if scaler else share * batch.weight
        if share.requires_grad:
            torch.autograd.backward(share)
        _sum_gradients((leaf for leaf in leaves.values() if leaf.requires_grad), world)
        towers.carry({key: leaf.grad[batch.rows] for key, leaf in leaves.items() if leaf.grad is not None})
        _sum_gradients(trained, world)
    return StepResult(loss, count)


class _Towers:
    """Both towers over this worker's pairs, in pieces of at most `micro`."""

    def __init__(
        self,
        method: Method,
        batch: LocalBatch,
        micro: int,
        device: torch.device,
        autocast: torch.dtype | None,
    ) -> None:
        self._method, self._batch, self._device, self._autocast = method, batch, device, autocast
        self._levels = batch.targets.levels[batch.rows]
        count = len(batch.tokens)
        # A worker without pairs has one empty piece, from which it learns the shapes of the others'.
        starts = range(0, max(count, 1), micro)
        self._pieces = [slice(start, min(start + micro, count)) for start in starts]
        self._last: _Said | None = None

    def see(self) -> _Said:
        """What is said of all of this worker's pairs; the graph of the last piece is kept."""
        with torch.no_grad():
            before = [self._run(piece, _SIDES) for piece in self._pieces[:-1]]
        self._last = last = self._run(self._pieces[-1], _SIDES)
        if not before:
            return last
        return {key: torch.cat([*(said[key] for said in before), last[key].detach()]) for key in last}

    def carry(self, gradients: _Said) -> None:
        """Carry the gradients of this worker's outputs on to the parameters."""
        for piece in reversed(self._pieces):
            said, self._last = self._last or self._run(piece, self._method.sides), None
            # `prefix` gives no gradient to images without a level.
            keys = [key for key, value in said.items() if value.requires_grad]
            # An empty piece stands for no pair, and must not turn what it computed into a gradient.
            if keys and piece.start < piece.stop:
                torch.autograd.backward(
                    [said[key] for key in keys], [gradients[key][piece].to(said[key].dtype) for key in keys]
                )

    def _run(self, piece: slice, sides: Sequence[str]) -> _Said:
        batch = self._batch
        pixels, tokens, levels = (
            value[piece] if piece.start < piece.stop else value.new_zeros((1, *value.shape[1:]))
            for value in (batch.pixels, batch.tokens, self._levels)
        )
        run: dict[str, Callable[[], Outputs]] = {
            "images": lambda: self._method.image_side(pixels.to(self._device, non_blocking=True), levels),
            "texts": lambda: self._method.text_side(tokens.to(self._device, non_blocking=True)),
        }
        said = _Said()
        first = batch.rows.start + piece.start
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            for side in sides:
                # By itself, so that it draws the same whether the other side runs or not.
                with _seeded([batch.targets.seed, first, _SIDES.index(side)], self._device):
                    said |= {(side, name): value for name, value in run[side]().items()}
        return said if piece.start < piece.stop else {key: value[:0] for key, value in said.items()}


@contextmanager
def _seeded(numbers: Sequence[int], device: torch.device) -> Iterator[None]:
    """Draw the same at each run of a piece, and leave the generators as they were."""
    entropy = [number % 2**64 for number in numbers]
    mixed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(mixed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(mixed)
        yield


def _readable(batch: LocalBatch, world: World) -> LocalBatch:
    """The batch without the pairs whose image some worker could not read; targets on the device."""
    own, count, device = batch.good, len(batch.targets.owners), world.device
    good = world.gather(own.to(device, torch.int32), batch.rows, count).bool()
    targets = _each(batch.targets, lambda column: column.to(device))
    if good.all():
        return replace(batch, targets=targets)
    start = int(good[: batch.rows.start].sum())
    return replace(
        batch,
        pixels=batch.pixels[own.to(batch.pixels.device)],
        tokens=batch.tokens[own.to(batch.tokens.device)],
        good=own[own],
        rows=slice(start, start + int(own.sum())),
        targets=_each(targets, lambda column: column[good]),
    )


def _each(targets: Targets, change: Callable[[Tensor], Tensor]) -> Targets:
    return Targets(change(targets.owners), change(targets.levels), change(targets.weights), targets.seed)


def _gather(own: Tensor, rows: slice, count: int, world: World) -> Tensor:
    """One output of all workers' pairs, where its graph ends; numbers in float32 at least."""
    if not own.is_floating_point():
        # Truth values cannot be added.
        return world.gather(own.to(torch.int64), rows, count).to(own.dtype)
    return world.gather(own.to(torch.promote_types(own.dtype, torch.float32)), rows, count)


def _share(method: Method, said: _Said, targets: Targets, world: World) -> Tensor:
    """This worker's share of the loss; rows are cut anew, since those that are left may lie unevenly."""
    rows = world.rows(len(targets.owners))
    if rows.start == rows.stop:
        return torch.zeros((), device=world.device)
    images, texts = (
        {name: value for (of, name), value in said.items() if of == side} for side in ("images", "texts")
    )
    return method.loss(images, texts, targets, rows)


def _total(share: Tensor, world: World) -> float:
    total = share.detach().double().reshape(1)
    world.sum([total])
    return float(total)


def _sum_gradients(tensors: Iterable[Tensor], world: World) -> None:
    """Sum each tensor's gradient over the workers; one that has none counts as zeros."""
    gradients = []
    for tensor in tensors:
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
        gradients.append(tensor.grad)
    world.sum(gradients)
