from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from engine.errors import StorageError
from engine.storage import Location, locate
from engine.training import checkpoint_files
from engine.training.checkpoint import Checkpoint, Checkpoints
from engine.training.ema import Average
from tests.training.checkpoints import FILES, holds, names, newest_step, save, saved, state_at, weights_at


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Training:
    """A small network, and all that its training carries from step to step."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2))
        self.weights = dict(self.model.named_parameters())
        first, last = self.model[0].parameters(), self.model[3].weight
        groups: list[dict[str, Any]] = [{"params": list(first), "lr": 1e-3}, {"params": last}]
        self.optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.1)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=10)
        self.average = Average(self.weights, 0.99)

    def run(self, steps: range) -> None:
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            loss = self.model(torch.randn(5, 4, generator=generator)).pow(2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.average.update()

    def state(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": self.average.state(),
            "random": torch.get_rng_state(),
        }

    def take(self, checkpoint: Checkpoint) -> None:
        checkpoint.load_into(self.weights)
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        self.scheduler.load_state_dict(checkpoint.state["scheduler"])
        self.average.load(checkpoint.state["average"])


def test_ten_steps_are_five_steps_and_five_after_a_checkpoint(tmp_path: Path) -> None:
    straight, first, second = Training(), Training(), Training()
    straight.run(range(10))
    first.run(range(5))
    checkpoints = Checkpoints(locate(tmp_path), 1)
    checkpoints.save(5, first.weights, first.state())
    first.run(range(5, 10))  # goes on while it is written
    checkpoints.close()
    found = Checkpoints(locate(tmp_path), 1).newest()
    assert found is not None and found.step == 5
    torch.manual_seed(99)
    for weight in second.weights.values():
        nn.init.normal_(weight)
    second.take(found)
    torch.set_rng_state(found.state["random"])
    second.run(range(5, 10))
    for other in (first, second):
        one = checkpoint_files.contents(straight.weights, {**straight.state(), "random": None})
        two = checkpoint_files.contents(other.weights, {**other.state(), "random": None})
        assert {n: bytes(data) for n, data in one.items()} == {n: bytes(data) for n, data in two.items()}


def test_what_comes_back_has_the_types_it_had(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    state = {"scaler": scaler.state_dict(), "betas": (0.9, 0.98), "none": None, "epochs": {1: [True, 2.0]}}
    checkpoints = Checkpoints(locate(tmp_path), 1)
    checkpoints.save(0, {}, state)
    found = checkpoints.newest()
    assert found is not None and found.state == state and found.weights == {} and found.score is None
    assert type(found.state["betas"]) is tuple and type(found.state["epochs"][1][1]) is float


def test_files(tmp_path: Path) -> None:
    saved(tmp_path, 1, 1234)
    assert names(tmp_path) == ["step-00001234"] and names(tmp_path / "step-00001234") == FILES
    told = json.loads((tmp_path / "step-00001234" / "checkpoint.json").read_text())
    assert (told["step"], told["score"], sorted(told["files"])) == (1234, None, FILES[1:])
    assert load_file(tmp_path / "step-00001234" / "weights.safetensors")["w"].tolist() == [1234.0] * 3
    assert json.loads((tmp_path / "step-00001234" / "state.json").read_text())["position"] == {"step": 1234}


def test_training_goes_on_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, threads, plain = threading.Event(), set[str](), Location.write_bytes

    def slow(self: Location, *given: Any, **named: Any) -> bool:
        assert go.wait(10)
        threads.add(threading.current_thread().name)
        return plain(self, *given, **named)

    monkeypatch.setattr(Location, "write_bytes", slow)
    checkpoints, weights, state = Checkpoints(locate(tmp_path), 1), weights_at(1), state_at(1)
    checkpoints.save(1, weights, state)
    assert not tmp_path.exists() or names(tmp_path) == []
    weights["w"].zero_()
    state["optimizer"]["state"][0]["m"].zero_()
    state["position"]["step"] = 0
    second = threading.Thread(target=save, args=(checkpoints, 2))
    second.start()
    second.join(0.05)
    assert second.is_alive(), "one at a time"
    go.set()
    second.join()
    checkpoints.close()
    assert holds(checkpoints.newest(), 2) and threads == {"checkpoint_0"}


def test_a_failed_write_is_seen_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, ended = threading.Event(), threading.Event()

    def full(*_: Any, **__: Any) -> bool:
        assert go.wait(10)
        raise StorageError("the disk is full")

    monkeypatch.setattr(Location, "write_bytes", full)
    checkpoints = Checkpoints(locate(tmp_path), 1)
    checkpoints.look()
    save(checkpoints, 1)
    checkpoints.look()  # it is being written
    assert checkpoints._pending is not None
    checkpoints._pending.add_done_callback(lambda _: ended.set())
    go.set()
    assert ended.wait(10)
    with pytest.raises(StorageError, match="the disk is full"):
        checkpoints.look()
    checkpoints.close()  # it has been told


def test_the_copy_is_of_the_moment_of_saving(tmp_path: Path) -> None:
    checkpoints, weights = Checkpoints(locate(tmp_path), 1), weights_at(1)
    checkpoints.save(1, weights, state_at(1))
    weights["w"].zero_()
    assert holds(checkpoints.newest(), 1)


def test_nothing_is_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(locate(tmp_path / "none"), 1)
    assert checkpoints.newest() is None and checkpoints.best() is None
    assert newest_step(locate(tmp_path / "none")) == -1
    checkpoints.wait()
    checkpoints.close()
    with pytest.raises(ValueError, match="at least one"):
        Checkpoints(locate(tmp_path), 0)
    with pytest.raises(StorageError, match="holds no whole checkpoint of step 7"):
        Checkpoints(locate(tmp_path), 1).at(7)


def test_what_cannot_be_kept_is_said_at_once(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 1)
    with pytest.raises(TypeError, match="/position: set cannot be kept"):
        checkpoints.save(2, {}, {"position": {1}})
    assert holds(checkpoints.newest(), 1)


def kept_by_brute_force(scores: list[float | None], keep: int) -> set[int]:
    numbers = [(score, step) for step, score in enumerate(scores) if score is not None]
    return set(range(len(scores))[-keep:]) | ({max(numbers)[1]} if numbers else set())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.none() | st.sampled_from([-1.0, 0.0, 0.25, 0.5]), min_size=1, max_size=7),
    st.integers(1, 3),
    st.integers(0, 7),
)
def test_the_last_and_the_best_are_kept(
    tmp_path: Path, no_waiting_for_the_disk: None, scores: list[float | None], keep: int, restart: int
) -> None:
    directory = tmp_path / "checkpoints"
    shutil.rmtree(directory, ignore_errors=True)
    checkpoints = Checkpoints(locate(directory), keep)
    for step, score in enumerate(scores):
        if step == restart:  # another process goes on
            checkpoints.close()
            checkpoints = Checkpoints(locate(directory), keep)
        save(checkpoints, step, score)
    checkpoints.wait()
    expected = kept_by_brute_force(scores, keep)
    assert names(directory) == [f"step-{step:08d}" for step in sorted(expected)]
    assert holds(checkpoints.newest(), len(scores) - 1) and newest_step(locate(directory)) == len(scores) - 1
    best = checkpoints.best()
    assert (best is None) == all(score is None for score in scores)
    assert best is None or (best.score == scores[best.step] == max(s for s in scores if s is not None))
    checkpoints.close()


def test_a_score_that_is_no_number_is_none(tmp_path: Path) -> None:
    checkpoints = Checkpoints(locate(tmp_path), 1)
    for step, score in enumerate([0.5, float("nan"), float("inf"), None]):
        save(checkpoints, step, score)
    found = checkpoints.best()
    assert holds(found, 0) and names(tmp_path) == ["step-00000000", "step-00000003"]


def test_an_older_one_goes_only_when_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, seen = saved(tmp_path, 1, 1), list[tuple[str, list[str]]]()
    plain = checkpoint_files.remove

    def watched(place: Location) -> None:
        seen.append((place.name, names(tmp_path / "step-00000002")))
        plain(place)

    monkeypatch.setattr("engine.training.checkpoint.remove", watched)
    save(checkpoints, 2)
    checkpoints.wait()
    assert seen == [("step-00000001", FILES)]


def test_a_step_that_is_saved_again(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 1)
    checkpoints.save(1, weights_at(9), state_at(9), 0.5)
    found = checkpoints.newest()
    assert found is not None and (found.step, found.score) == (1, 0.5) and found.weights["v"] == 9
    assert names(tmp_path) == ["step-00000001-1"] and newest_step(locate(tmp_path)) == 1
    save(checkpoints, 1)
    assert holds(checkpoints.newest(), 1) and holds(checkpoints.at(1), 1)
    assert names(tmp_path) == ["step-00000001-1", "step-00000001-2"], "the best one, and the last"
    save(checkpoints, 2)
    checkpoints.wait()
    assert names(tmp_path) == ["step-00000001-1", "step-00000002"]


def test_many_steps_sort_as_numbers(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 2, 99_999_999, 100_000_000, 1_000_000_000)
    assert holds(checkpoints.newest(), 1_000_000_000)
    assert names(tmp_path) == ["step-100000000", "step-1000000000"]
