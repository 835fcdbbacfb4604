"""When training gives up on workers that keep dying: told by the checkpoints between, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train

from engine.errors import StorageError
from engine.recipe.finetune import Finetune
from engine.training import trainer


class Place:
    """A model's directory whose training is over when nothing is left to happen."""

    def __init__(self, *there: str) -> None:
        self.names, self.over = list(there), False

    def whole(self) -> list[str]:
        return self.names

    def finished(self) -> bool:
        return self.over


def train(monkeypatch: pytest.MonkeyPatch, place: Place, saved: list[list[str]], allowed: int) -> list[str]:
    """Lose a worker after each of the lists of checkpoints that were saved meanwhile, then finish."""
    left, lines = iter(saved), list[str]()

    def fit(*_: Any) -> None:
        names = next(left, None)
        if names is None:
            place.over = True
            return
        place.names = names
        raise ray.train.TrainingFailedError

    @contextmanager
    def told(_: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(trainer, "_fit", fit)
    monkeypatch.setattr(trainer, "told", told)
    monkeypatch.setattr(trainer, "room", lambda *_: 1)
    settings = Finetune.model_validate({"model": "open_clip:terrarium", "max_failures": allowed})
    trainer._train(SimpleNamespace(settings=settings, place=place), lines.append)  # type: ignore[arg-type]
    return lines


def test_losses_with_a_checkpoint_between_them_may_be_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the newest is kept, and the first loss comes before there is any.
    saved = [[], *([f"step-{step}"] for step in range(9))]
    assert len(train(monkeypatch, Place(), saved, allowed=1)) == 10


def test_losses_without_one_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    same = [["step-2"], ["step-4"], ["step-4"], ["step-4"], ["step-4"]]
    assert len(train(monkeypatch, Place("step-2"), same[:3], allowed=2)) == 3
    with pytest.raises(StorageError, match=r"failed 3 times without reaching another checkpoint"):
        train(monkeypatch, Place("step-2"), same, allowed=2)


def test_a_damaged_checkpoint_of_a_higher_step_hides_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = [["step-400", f"step-{step}"] for step in (310, 320, 330, 340)]
    assert len(train(monkeypatch, Place("step-300", "step-400"), saved, allowed=1)) == 4


def test_what_is_there_belongs_to_the_run_directory(tmp_path: Path) -> None:
    from engine.storage import locate
    from engine.training.model_directory import ModelDirectory

    place = ModelDirectory(locate(tmp_path))
    for name in ("step-1", "step-2"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-1" / "checkpoint.json").write_text("{}")
    assert place.whole() == ["step-1"] and place.begun()
