from __future__ import annotations

import copy
import itertools
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.training.method import Method, Outputs, Targets
from engine.training.step import LocalBatch, StepResult, accumulate
from engine.training.world import World

SIDE, LENGTH, WORDS = 2, 5, 30
SEED = 7


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Tiny(Method):
    """Two small towers in float64, and InfoNCE written naively; it notes how its towers are called."""

    def __init__(self, dropout: float = 0.0, frozen: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 8), nn.Tanh(), nn.Dropout(dropout))
        self.image_head, self.level = nn.Linear(8, 4), nn.Embedding(6, 8)
        self.words, self.text_head = nn.Embedding(WORDS, 8), nn.Linear(8, 4)
        self.drop = nn.Dropout(dropout)
        self.log_scale, self.unused = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.ones(3))
        self.double()
        if frozen:
            still = (
                [self.words, self.text_head]
                if frozen == "texts"
                else [self.image, self.image_head, self.level]
            )
            nn.ModuleList(still).requires_grad_(False)
            self.sides = tuple(side for side in self.sides if side != frozen)
        self.seen: list[tuple[str, int, bool, torch.dtype]] = []
        self.given: list[Tensor] = []
        self.made: list[Tensor] = []

    def image_side(self, pixels: Tensor, levels: Tensor) -> Outputs:
        out = self.image_head(self.image(pixels.to(self.level.weight.dtype)) + self.level(levels + 1))
        self.seen.append(("images", len(pixels), torch.is_grad_enabled(), out.dtype))
        self.made.append(out)
        return {"features": out, "row": pixels.flatten(1).argmax(dim=1), "bright": pixels.mean((1, 2, 3)) > 0}

    def text_side(self, tokens: Tensor) -> Outputs:
        out = self.text_head(self.drop(self.words(tokens).mean(dim=1)))
        self.seen.append(("texts", len(tokens), torch.is_grad_enabled(), out.dtype))
        return {"features": out, "twice": 2 * out}

    def loss(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        assert rows.start < rows.stop, "who answers for no row is not asked"
        assert len(images["features"]) == len(texts["twice"]) == len(targets.owners), "all are of the batch"
        assert images["bright"].dtype == torch.bool and images["row"].dtype == torch.int64
        self.given = [images["features"], texts["features"]]
        # Each kind of output has its part in the loss, so that a wrong row of any shows.
        factor = 1 + images["row"] / 10 + images["bright"].double()
        logits = self.log_scale.exp() * images["features"] @ (texts["features"] + texts["twice"]).T
        terms = logits.logsumexp(dim=1) + logits.logsumexp(dim=0) - 2 * logits.diagonal()
        return (targets.weights * factor * terms)[rows].sum() / targets.weights.sum()


@dataclass(frozen=True)
class Whole:
    """A batch before it is cut among workers."""

    pixels: Tensor
    tokens: Tensor
    good: Tensor
    targets: Targets
    weight: float = 1.0

    @classmethod
    def of(cls, count: int, bad: Sequence[int] = (), weight: float = 1.0) -> Whole:
        random = torch.Generator().manual_seed(3)
        good = torch.ones(count, dtype=torch.bool)
        good[list(bad)] = False
        pixels = torch.randn(count, 3, SIDE, SIDE, generator=random)
        pixels[~good] = 0
        return cls(
            pixels,
            torch.randint(1, WORDS, (count, LENGTH), generator=random),
            good,
            Targets(torch.arange(count), torch.arange(count) % 6 - 1, torch.arange(1.0, count + 1), SEED),
            weight,
        )

    def cut(self, rows: slice) -> LocalBatch:
        """What the worker of these rows is given."""
        ids = tuple(f"image-{index}" for index in range(len(self.good)))
        return LocalBatch(
            self.pixels[rows], self.tokens[rows], self.good[rows], rows, self.targets, self.weight, ids
        )

    def all(self) -> LocalBatch:
        return self.cut(slice(0, len(self.good)))

    def readable(self) -> Whole:
        """The batch that is left."""
        of = self.targets
        left = Targets(of.owners[self.good], of.levels[self.good], of.weights[self.good], of.seed)
        return Whole(self.pixels[self.good], self.tokens[self.good], self.good[self.good], left, self.weight)


Gradients = dict[str, Tensor | None]


def gradients(method: Method) -> Gradients:
    return {name: value.grad for name, value in method.named_parameters() if value.requires_grad}


def at_once(method: Tiny, whole: Whole) -> tuple[float, Gradients]:
    """The readable pairs in one pass, differentiated by torch alone."""
    left = whole.readable()
    images = method.image_side(left.pixels, left.targets.levels)
    texts = method.text_side(left.tokens)
    loss = method.loss(images, texts, left.targets, slice(0, len(left.good)))
    (loss * whole.weight).backward()
    method.unused.grad = torch.zeros_like(method.unused)
    return loss.item(), gradients(method)


def assert_same(found: Gradients, wanted: Gradients) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-12, msg=name)


def step(method: Method, batch: LocalBatch, micro: int, world: World | None = None) -> StepResult:
    return accumulate(method, batch, world or World(), micro, None, None)


@pytest.mark.parametrize("micro", [1, 3, 4, 8, 9, 100])
@pytest.mark.parametrize("bad", [(), (0,), (2, 8), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("frozen", ["", "texts", "images"])
def test_pieces_give_the_big_batch_s_gradient(micro: int, bad: tuple[int, ...], frozen: str) -> None:
    whole, method = Whole.of(9, bad, weight=0.6), Tiny(frozen=frozen)
    loss, wanted = at_once(copy.deepcopy(method), whole)
    assert step(method, whole.all(), micro) == StepResult(pytest.approx(loss), 9 - len(bad))
    assert_same(gradients(method), wanted)


def test_older_gradients_are_dropped() -> None:
    whole, method = Whole.of(6), Tiny()
    step(method, whole.all(), 2)
    first = {name: value.clone() for name, value in gradients(method).items() if value is not None}
    step(method, whole.all(), 2)
    assert_same(gradients(method), dict(first))


@pytest.mark.parametrize("micro", [2, 3, 7])
def test_a_piece_draws_the_same_twice(micro: int) -> None:
    """Dropout: equal to pieces with graphs kept, joined, each drawn from its own seed."""
    whole, method = Whole.of(7), Tiny(dropout=0.5)
    reference = copy.deepcopy(method)
    torch.manual_seed(100)
    before = torch.get_rng_state()
    found = step(method, whole.all(), micro)
    assert torch.equal(torch.get_rng_state(), before), "the generator goes on as if nothing had been drawn"
    pieces = [slice(start, min(start + micro, 7)) for start in range(0, 7, micro)]
    said = [drawn_like(method, reference, whole, piece) for piece in pieces]
    images, texts = (
        {name: torch.cat([each[side][name] for each in said]) for name in said[0][side]} for side in (0, 1)
    )
    loss = reference.loss(images, texts, whole.targets, slice(0, 7))
    loss.backward()
    reference.unused.grad = torch.zeros(3, dtype=torch.float64)
    assert found.loss == pytest.approx(loss.item())
    assert_same(gradients(method), gradients(reference))
    assert step(method, whole.all(), micro) == found
    other = replace(whole, targets=replace(whole.targets, seed=SEED + 1))
    assert step(method, other.all(), micro).loss != found.loss


def drawn_like(method: Tiny, reference: Tiny, whole: Whole, rows: slice) -> tuple[Outputs, Outputs]:
    """Outputs of one piece whose masks are read off what `method` made of it."""
    from engine.training.step import _seeded

    with _seeded([SEED, rows.start, 0], torch.device("cpu")):
        images = reference.image_side(whole.pixels[rows], whole.targets.levels[rows])
    with _seeded([SEED, rows.start, 1], torch.device("cpu")):
        texts = reference.text_side(whole.tokens[rows])
    made = [each for each in method.made if len(each) == rows.stop - rows.start]
    assert any(torch.equal(each, images["features"]) for each in made)
    return images, texts


def test_pieces_draw_differently() -> None:
    """The same pair twice, in two pieces: another mask for each."""
    whole = Whole.of(2)
    pixels, tokens = whole.pixels[[0, 0]], whole.tokens[[0, 0]]
    levels = torch.zeros(2, dtype=torch.int64)
    same = replace(whole, pixels=pixels, tokens=tokens, targets=replace(whole.targets, levels=levels))
    method = Tiny(dropout=0.5)
    step(method, same.all(), 1)
    assert not torch.equal(method.given[0][0], method.given[0][1])


def test_one_piece_is_one_pass_without_copies() -> None:
    whole, method = Whole.of(5), Tiny()
    step(method, whole.all(), 5)
    assert [call[:3] for call in method.seen] == [("images", 5, True), ("texts", 5, True)]
    assert method.given[0].data_ptr() == method.made[0].data_ptr()


@pytest.mark.parametrize("frozen", ["", "texts", "images"])
def test_several_pieces_pass_twice_but_the_last(frozen: str) -> None:
    whole, method = Whole.of(7), Tiny(frozen=frozen)
    step(method, whole.all(), 3)
    calls = {side: [call[1:3] for call in method.seen if call[0] == side] for side in ("images", "texts")}
    once, again = [(3, False), (3, False), (1, True)], [(3, True), (3, True)]
    for side in ("images", "texts"):
        assert calls[side] == (once if side == frozen else once + again), "a frozen side needs no second pass"
    assert [given.requires_grad for given in method.given] == [frozen != "images", frozen != "texts"]


def test_under_autocast_only_the_towers_are_low() -> None:
    whole, method = Whole.of(6), Tiny().float()
    plain = copy.deepcopy(method)
    step(plain, whole.all(), 2)
    accumulate(method, whole.all(), World(), 2, torch.bfloat16, None)
    assert {call[3] for call in method.seen} == {torch.bfloat16}
    assert {given.dtype for given in method.given} == {torch.float32}
    for name, wanted in gradients(plain).items():
        found = gradients(method)[name]
        assert found is not None and wanted is not None and found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.02 * float(wanted.abs().max()) + 1e-6)


def test_a_scaler_scales_every_gradient() -> None:
    whole, method = Whole.of(6, weight=0.6), Tiny()
    loss, wanted = at_once(copy.deepcopy(method), whole)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    found = accumulate(method, whole.all(), World(), 4, None, scaler)
    assert found.loss == pytest.approx(loss), "told without the factor"
    scaled = {name: 1024 * value for name, value in wanted.items() if value is not None}
    assert_same(gradients(method), dict(scaled))


@pytest.mark.parametrize("bad", [range(4), range(1, 4)], ids=["none left", "one left"])
def test_fewer_than_two_pairs_are_no_batch(bad: range) -> None:
    method = Tiny()
    step(method, Whole.of(4).all(), 2)
    found = step(method, Whole.of(4, bad).all(), 2)
    assert math.isnan(found.loss) and found.pairs == 4 - len(bad)
    assert set(gradients(method).values()) == {None}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_leaves_no_gradient(value: float) -> None:
    whole, method = Whole.of(5), Tiny()
    with torch.no_grad():
        method.log_scale.fill_(value)
    found = step(method, whole.all(), 2)
    assert not math.isfinite(found.loss) and found.pairs == 5
    assert set(gradients(method).values()) == {None}


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
@settings(max_examples=60, deadline=None)
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


@pytest.mark.parametrize("name", ["full", "lora", "prefix"])
@pytest.mark.parametrize("loss", ["infonce", "sigmoid", "multi_positive"])
def test_pieces_of_a_clip(tmp_path: Path, name: str, loss: str) -> None:
    # Here, since the two processes below import this module and would wait for these.
    from engine.training.methods import build_method
    from tests.training import tiny

    torch.manual_seed(1)
    chosen = tiny.settings(tiny.write_clip(tmp_path), name, loss=loss)
    method = build_method(tiny.load(chosen.model), chosen)
    targets = Targets(torch.tensor([0, 0, 1, 2, 3, 3, 3]), torch.arange(7) % 6 - 1, torch.ones(7), SEED)
    tokens = method.backbone.tokenize([f"a scene with the number {index}" for index in range(7)])
    whole = Whole(tiny.pixels(7), tokens, torch.ones(7, dtype=torch.bool), targets)
    once = step(method, whole.all(), 7)
    wanted = gradients(method)
    assert step(method, whole.all(), 3).loss == pytest.approx(once.loss, rel=1e-5)
    for key, found in gradients(method).items():
        torch.testing.assert_close(found, wanted[key], rtol=1e-3, atol=1e-5, msg=key)


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
