from __future__ import annotations

import csv
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.errors import RecipeError, StorageError
from engine.recipe.finetune import Finetune
from engine.storage import Location, locate
from engine.training import logs as module
from engine.training.log_files import CsvLog, TensorBoardLog
from engine.training.log_services import check_services
from engine.training.logs import Logs, line


def chosen(**more: Any) -> Finetune:
    return Finetune.model_validate({"model": "hf:x", **more})


def refuse(text: str) -> None:
    raise AssertionError(text)


def metrics(place: Location, step: int = 0, tell: Callable[[str], None] = refuse) -> CsvLog:
    return CsvLog(place, step, tell)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def train(log: CsvLog, steps: range) -> None:
    """What a training does: a row every other step, validation every fourth."""
    for step in steps:
        if step % 2 == 0:
            log.write(step, {"loss": 1 / step, "rate": 1e-5 * step}, "train")
        if step % 4 == 0:
            log.write(step, {"t2i R@1": step / 3, "metaphor/t2i R@1": step / 7}, "validation")


def test_the_file_is_a_row_a_step_and_a_column_a_figure(tmp_path: Path) -> None:
    log = metrics(locate(tmp_path / "deep" / "metrics.csv"))
    log.write(0, {"t2i R@1": 0.1}, "validation")
    log.write(20, {"loss": 1 / 3, 'odd, "name"\n': math.nan}, "train")
    log.close()
    assert rows_of(tmp_path / "deep" / "metrics.csv") == [
        {"step": "0", "kind": "validation", "t2i R@1": "0.1", "loss": "", 'odd, "name"\n': ""},
        {"step": "20", "kind": "train", "t2i R@1": "", "loss": repr(1 / 3), 'odd, "name"\n': "nan"},
    ]


@pytest.mark.parametrize("kept", [0, 2, 3, 4, 5, 8, 12])
def test_a_resumed_log_is_an_undisturbed_one(tmp_path: Path, kept: int) -> None:
    whole, cut = locate(tmp_path / "whole.csv"), locate(tmp_path / "cut.csv")
    log = metrics(whole)
    log.write(0, {"t2i R@1": 0.0}, "validation")
    train(log, range(1, 13))
    log.close()
    log = metrics(cut)
    log.write(0, {"t2i R@1": 0.0}, "validation")
    train(log, range(1, kept + 1))
    log.flush()
    train(log, range(kept + 1, 12))  # behind the checkpoint; flushed by validations
    log = metrics(cut, kept)
    if kept == 0:
        log.write(0, {"t2i R@1": 0.0}, "validation")
    train(log, range(kept + 1, 13))
    log.close()
    assert cut.read_bytes() == whole.read_bytes()


#: Names as figures may have: a line's end is read back as another one.
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(
    lambda name: name not in ("step", "kind")
)


@settings(max_examples=30)
@given(st.dictionaries(NAMES, st.floats(), min_size=1))
def test_figures_come_back_to_the_last_bit(figures: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = locate(f"{folder}/metrics.csv")
        log = metrics(place)
        log.write(3, figures, "train")
        log.close()
        before = place.read_bytes()
        metrics(place, 3).close()
        assert place.read_bytes() == before
        (row,) = rows_of(Path(place.uri))
    found = {name: float(text) for name, text in row.items() if name not in ("step", "kind")}
    assert repr(sorted(found.items())) == repr(sorted(figures.items()))


@pytest.mark.parametrize(
    "text", [b"a,b\n1,2\n", b"step,kind\nx,train\n", b"\xff\xfe", b"step,kind\n1,train,3\n", b'step,kind\n"1']
)
def test_a_file_that_is_no_log_is_moved_aside(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(text)
    told: list[str] = []
    log = metrics(locate(tmp_path / "metrics.csv"), 5, told.append)
    log.write(6, {"loss": 1.0}, "train")
    log.close()
    assert (tmp_path / "metrics.csv.damaged").read_bytes() == text
    assert len(rows_of(tmp_path / "metrics.csv")) == 1
    assert len(told) == 1 and "metrics.csv: is no log of a training; it was moved" in told[0]


def curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds."""
    events = EventAccumulator(str(directory))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_what_was_logged_and_forgets_what_was_behind_a_checkpoint(tmp_path: Path) -> None:
    log = TensorBoardLog(locate(tmp_path / "tb"), 0)
    log.write(0, {"t2i R@1": 0.25}, "validation")
    for step in (2, 4, 6):
        log.write(step, {"loss": 1 / step}, "train")
    log.flush()  # and the process is killed
    log = TensorBoardLog(locate(tmp_path / "tb"), 4)
    log.write(6, {"loss": 0.75}, "train")
    log.close()
    assert curves(tmp_path / "tb") == {
        "validation/t2i R@1": [(0, 0.25)],
        "train/loss": [(2, 0.5), (4, 0.25), (6, 0.75)],
    }


class Elsewhere(Location):
    """A directory that is as far away as an object store."""

    @property
    def is_local(self) -> bool:
        return False

    def __truediv__(self, name: str) -> Location:
        return locate(self.uri) / name


def test_event_files_of_an_object_store_are_copied_at_the_end(tmp_path: Path) -> None:
    log = TensorBoardLog(Elsewhere(str(tmp_path / "tb")), 0)
    log.write(2, {"loss": 0.5}, "train")
    assert not (tmp_path / "tb").exists()
    log.close()
    assert curves(tmp_path / "tb") == {"train/loss": [(2, 0.5)]}


def test_only_the_first_worker_logs(tmp_path: Path) -> None:
    logs = Logs.open(locate(tmp_path / "m"), chosen(), 0, first=False, tell=refuse)
    logs.write(1, {"loss": 1.0}, "train")
    logs.flush()
    logs.close()
    assert not (tmp_path / "m").exists()
    logs = Logs.open(locate(tmp_path / "m"), chosen(), 0, first=True, tell=refuse)
    logs.write(1, {"loss": 1.0}, "train")
    logs.close()
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"metrics.csv", "tensorboard"}


class Service:
    """A stand-in for a service's package, which records the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, fails: str = "") -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.fails = fails
        stand_in = ModuleType(name)
        for call in ("init", "set_experiment", "start_run", "log_params", "log_metrics", "end_run"):
            setattr(stand_in, call, lambda *a, _call=call, **k: self._take(_call, *a, **k))
        monkeypatch.setitem(sys.modules, name, stand_in)

    def _take(self, call: str, *arguments: Any, **named: Any) -> Any:
        self.calls.append((call, arguments, named))
        if call == self.fails:
            raise ConnectionError("no route to host")
        run = SimpleNamespace(id=named.get("id") or "w1", info=SimpleNamespace(run_id="m1"))
        for method in ("define_metric", "log", "finish"):
            setattr(run, method, lambda *a, _call=method, **k: self._take(_call, *a, **k))
        return run

    def given(self, call: str) -> list[tuple[Any, ...]]:
        return [arguments for name, arguments, _ in self.calls if name == call]

    def named(self, call: str) -> list[dict[str, Any]]:
        return [named for name, _, named in self.calls if name == call]


def logged(directory: Path, recipe: Finetune, step: int = 0) -> list[str]:
    told: list[str] = []
    logs = Logs.open(locate(directory), recipe, step, first=True, tell=told.append)
    logs.write(step + 1, {"loss": 0.5}, "train")
    logs.write(step + 1, {"metaphor/t2i R@1": 0.25}, "validation")
    logs.close()
    return told


def test_wandb_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, "wandb")
    assert logged(tmp_path, chosen(wandb="clips", name="mine")) == []
    (begun,) = service.named("init")
    assert (begun["project"], begun["name"], begun["id"], begun["resume"]) == ("clips", "mine", None, "allow")
    assert begun["config"]["batch"] == 512
    assert service.given("log") == [
        ({"step": 1, "train/loss": 0.5},),
        ({"step": 1, "validation/metaphor/t2i R@1": 0.25},),
    ]
    assert service.calls[-1][0] == "finish"
    assert logged(tmp_path, chosen(wandb="clips", name="mine"), 4) == []
    assert [each["id"] for each in service.named("init")] == [None, "w1"]


def test_mlflow_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, "mlflow")
    assert logged(tmp_path, chosen(mlflow="clips")) == []
    assert service.given("set_experiment") == [("clips",)]
    # Names of figures may not hold @.
    assert service.given("log_metrics") == [({"train/loss": 0.5},), ({"validation/metaphor/t2i R_1": 0.25},)]
    assert service.named("log_metrics") == [{"step": 1}, {"step": 1}]
    assert service.calls[-1][0] == "end_run"
    assert logged(tmp_path, chosen(mlflow="clips", log_every=7), 4) == []
    assert [each["run_id"] for each in service.named("start_run")] == [None, "m1"]
    # What MLflow knows cannot be told anew.
    assert len(service.named("log_params")) == 1


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_service_that_fails_is_told_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    Service(monkeypatch, "wandb", fails)
    told = logged(tmp_path, chosen(wandb="clips"))
    assert told == ["warning: W&B does not log (no route to host); training goes on without it"]
    assert len(rows_of(tmp_path / "metrics.csv")) == 2


def test_a_service_that_never_answers_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    stand_in = ModuleType("mlflow")
    stand_in.set_experiment = lambda name: answer.wait(60)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    monkeypatch.setattr(module, "CLOSING_S", 0.1)
    begun = time.monotonic()
    told = logged(tmp_path, chosen(mlflow="clips"))
    assert time.monotonic() - begun < 10
    assert told == ["warning: MLflow has not taken all rows within 0.1 s"]
    answer.set()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_service_that_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    message = rf"finetune\.{name}: .*`uv pip install {name}`"
    with pytest.raises(RecipeError, match=message):
        check_services(chosen(**{name: "clips"}))
    with pytest.raises(RecipeError, match=message):
        Logs.open(locate(tmp_path), chosen(**{name: "clips"}), 0, first=True)
    check_services(chosen())


def test_a_full_disk_is_told_once_and_the_next_write_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    logs = Logs.open(locate(tmp_path), chosen(), 0, first=True, tell=told.append)
    write, full = Location.write_bytes, [True]

    def write_bytes(place: Location, data: Any, replace: bool = True) -> bool:
        if full[0]:
            raise StorageError(f"{place.uri}: the disk is full")
        return write(place, data, replace)

    monkeypatch.setattr(Location, "write_bytes", write_bytes)
    for step in (1, 2):
        logs.write(step, {"loss": 0.5}, "train")
        logs.flush()
    assert len(told) == 1 and "warning: metrics.csv does not log" in told[0] and "is full" in told[0]
    full[0] = False
    logs.close()
    assert [row["step"] for row in rows_of(tmp_path / "metrics.csv")] == ["1", "2"]


def test_the_line() -> None:
    figures: Mapping[str, float] = {"loss": 3.14159, "samples/s": 1234.56, "waiting": 0.031, "norm": 1.0}
    assert line(1200, 2400, figures, 0.5) == (
        "finetune  1,200/2,400 steps  1,234.6 samples/s  loss 3.1416  3 % waiting for data  10 min 00 s left"
    )
    assert line(5, 5, {}, 2.0) == "finetune  5/5 steps"
    assert line(1, 5, {"loss": math.nan}) == "finetune  1/5 steps  loss nan"


def test_the_time_left_counts_from_the_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    logs = Logs([])
    assert logs.line(40, 100, {}) == "finetune  40/100 steps"
    now[0] = 110.0
    assert logs.line(60, 100, {}) == "finetune  60/100 steps  20 s left"
    now[0] = 150.0  # a validation took its time
    assert logs.line(80, 100, {}) == "finetune  80/100 steps  25 s left"
