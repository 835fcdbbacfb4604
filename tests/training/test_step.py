"""The gradient of a step in pieces is that of the big batch."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.training.method import Outputs, Targets
from engine.training.methods import build_method
from engine.training.step import StepResult, accumulate
from engine.training.world import World
from tests.training import tiny
from tests.training.steps import (
    SEED,
    Tiny,
    Whole,
    assert_same,
    at_once,
    gradients,
    step,
)


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


@pytest.mark.parametrize("name", ["full", "lora", "prefix"])
@pytest.mark.parametrize("loss", ["infonce", "sigmoid", "multi_positive"])
def test_pieces_of_a_clip(tmp_path: Path, name: str, loss: str) -> None:
    torch.manual_seed(1)
    chosen = tiny.settings(tiny.write_clip(tmp_path), name, loss=loss, order="balanced")
    method = build_method(tiny.load(chosen.model), chosen)
    targets = Targets(torch.tensor([0, 0, 1, 2, 3, 3, 3]), torch.arange(7) % 6 - 1, torch.ones(7), SEED)
    tokens = method.backbone.tokenize([f"a scene with the number {index}" for index in range(7)])
    whole = Whole(tiny.pixels(7), tokens, torch.ones(7, dtype=torch.bool), targets)
    once = step(method, whole.all(), 7)
    wanted = gradients(method)
    assert step(method, whole.all(), 3).loss == pytest.approx(once.loss, rel=1e-5)
    for key, found in gradients(method).items():
        torch.testing.assert_close(found, wanted[key], rtol=1e-3, atol=1e-5, msg=key)
