"""A step of several workers is that of one: over threads, and over processes with gloo."""

from __future__ import annotations

import copy
import itertools
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.training.method import Outputs
from engine.training.step import StepResult
from engine.training.world import World
from tests.training.steps import (
    Gradients,
    Tiny,
    Whole,
    assert_same,
    at_once,
    gradients,
    step,
)


@dataclass(frozen=True)
class Threads(World):
    """Workers that are threads of this process."""

    board: list[Any] = field(default_factory=list)
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def sum(self, tensors: Sequence[Tensor]) -> None:
        told = self._told([tensor.clone() for tensor in tensors])
        for index, tensor in enumerate(tensors):
            tensor.copy_(torch.stack([each[index] for each in told]).sum(dim=0))

    def gather(self, local: Tensor, rows: slice, count: int) -> Tensor:
        assert len(local) == rows.stop - rows.start
        whole = torch.cat(self._told(local.detach()))
        assert len(whole) == count
        return whole

    def _told(self, value: Any) -> list[Any]:
        self.board[self.rank] = value
        self.barrier.wait(20)
        told = list(self.board)
        self.barrier.wait(20)
        return told


def on_threads(whole: Whole, edges: list[int], micro: int, method: Tiny) -> list[tuple[StepResult, Tiny]]:
    """One step of as many workers as there are cuts between the edges."""
    size = len(edges) - 1
    board: list[Any] = [None] * size
    barrier = threading.Barrier(size)
    found: dict[int, tuple[StepResult, Tiny]] = {}

    def work(rank: int, rows: slice) -> None:
        own = copy.deepcopy(method)
        try:
            world = Threads(rank, size, board=board, barrier=barrier)
            found[rank] = (step(own, whole.cut(rows), micro, world), own)
        except BaseException:
            barrier.abort()
            raise

    cuts = itertools.starmap(slice, itertools.pairwise(edges))
    threads = [threading.Thread(target=work, args=(rank, rows)) for rank, rows in enumerate(cuts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [found[rank] for rank in range(size)]


@given(data=st.data())
@settings(max_examples=60)
def test_any_cut_over_any_workers_is_the_joined_batch(data: st.DataObject) -> None:
    """Workers without rows or without readable ones included."""
    count = data.draw(st.integers(2, 10))
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 2))
    inner = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    whole, method = Whole.of(count, sorted(bad), weight=0.4), Tiny()
    loss, wanted = at_once(copy.deepcopy(method), whole)
    found = on_threads(whole, [0, *inner, count], data.draw(st.integers(1, 11)), method)
    for result, own in found:
        assert result == StepResult(pytest.approx(loss), count - len(bad))
        assert_same(gradients(own), wanted)


def test_a_blank_image_that_the_tower_cannot_bear_harms_nobody() -> None:
    """Zeros through x / |x| are no numbers: they must reach neither the loss nor a gradient."""

    class Fragile(Tiny):
        def image_side(self, pixels: Tensor, levels: Tensor) -> Outputs:
            flat = pixels.flatten(1)
            return super().image_side((flat / flat.norm(dim=1, keepdim=True)).view_as(pixels), levels)

    whole, method = Whole.of(6, bad=(0, 1, 4)), Fragile()
    loss, wanted = at_once(copy.deepcopy(method), whole)
    for result, own in on_threads(whole, [0, 2, 6], 2, method):
        assert result.loss == pytest.approx(loss)
        assert_same(gradients(own), wanted)


# Two processes over gloo. All cases run in one pair of them, since starting one takes seconds.
TWO: dict[str, tuple[Whole, int, int, dict[str, Any]]] = {
    # batch, rows of the first worker, pairs that pass at once, of the method
    "even": (Whole.of(8, weight=0.6), 4, 16, {}),
    "uneven": (Whole.of(7), 5, 2, {}),
    "a bad image": (Whole.of(7, bad=(5,)), 3, 2, {}),
    "no good row on the first": (Whole.of(7, bad=(0, 1, 2)), 3, 2, {}),
    "no row on the first": (Whole.of(5), 0, 2, {}),
    "frozen captions": (Whole.of(6, bad=(4, 5)), 4, 2, {"frozen": "texts"}),
    "frozen images": (Whole.of(6, bad=(4, 5)), 4, 2, {"frozen": "images"}),
    "dropout": (Whole.of(8), 4, 4, {"dropout": 0.5}),
    "one pair left": (Whole.of(4, bad=(0, 1, 3)), 2, 2, {}),
    "no number": (Whole.of(6), 3, 2, {}),
}
TWO["no number"][0].pixels[4] = math.nan


def two(rank: int, directory: str) -> None:
    """What one of the two processes does."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    found = {}
    for name, (whole, first, micro, options) in TWO.items():
        method = Tiny(**options)
        rows = (slice(0, first), slice(first, len(whole.good)))[rank]
        result = step(method, whole.cut(rows), micro, World(rank, 2))
        found[name] = (result.loss, result.pairs, gradients(method))
    torch.save(found, Path(directory) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def over_gloo(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[float, int, Gradients]]]:
    directory = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(two, (str(directory),), nprocs=2)
    return [torch.load(directory / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", [name for name in TWO if name not in ("one pair left", "no number")])
def test_two_processes_are_one(name: str, over_gloo: list[dict[str, tuple[float, int, Gradients]]]) -> None:
    whole, _, micro, options = TWO[name]
    method = Tiny(**options)
    # With dropout one worker's pieces must begin where those of the two did.
    loss = step(method, whole.all(), micro if "dropout" in options else 100).loss
    for told, pairs, found in (worker[name] for worker in over_gloo):
        assert told == pytest.approx(loss) and pairs == int(whole.good.sum())
        assert_same(found, gradients(method))
    first, second = (worker[name] for worker in over_gloo)
    assert first[0] == second[0]
    for key, value in first[2].items():
        assert value is not None
        other = second[2][key]
        assert other is not None and torch.equal(value, other), "to the last bit"


@pytest.mark.parametrize(("name", "pairs"), [("one pair left", 1), ("no number", 6)])
def test_two_processes_have_no_gradient_together(
    name: str, pairs: int, over_gloo: list[dict[str, tuple[float, int, Gradients]]]
) -> None:
    for loss, left, found in (worker[name] for worker in over_gloo):
        assert math.isnan(loss) and left == pairs
        assert set(found.values()) == {None}
