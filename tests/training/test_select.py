"""Which weights a model has in the end: the best mixture, the best step."""

from __future__ import annotations

from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.errors import RecipeError
from engine.training import work as working
from tests.training.worker import Stopped, job_of, train, weights


def test_the_best_mixture_of_old_and_new_weights(tmp_path: Path) -> None:
    for method in ("full", "lora"):
        job = job_of(tmp_path / method, method=method, interpolate=[0, 1], learning_rate=1e-12)
        train(job)
        found = job.place.about()["interpolation"]
        # All shares score alike: the smallest is taken, which is the model as it was.
        assert found["share"] == 0 and [share for share, _ in found["tried"]] == [0, 1]


def test_the_model_is_that_of_the_best_validation_where_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path / "a", select="best")
    # Of three validations the first is the best, and that before training still better.
    told = chain((0, -1, -2), repeat(1))
    monkeypatch.setattr(working, "score", lambda scores: next(told))
    said = train(job)
    assert "the model is that of step 5, the best of the validations on the way" in said
    assert "before training the model was better on the held-out images than at any step" in said
    about = job.place.about()
    assert (about["steps"], about["steps_in_all"]) == (5, 14)
    card = (job.place.directory / "README.md").read_bytes().decode()
    assert "for 5 steps on" in card and "Training went on to step 14" in card
    kept = load_file(Path(job.place.checkpoints.uri) / "step-00000005" / "weights.safetensors")
    found = {f"backbone.model.{name}": value for name, value in weights(job).items()}
    assert all(np.array_equal(value, found[name]) for name, value in kept.items())
    # The same without it is that of the last step; killed at its end, the best is found again.
    last = job_of(tmp_path / "b")
    train(last)
    assert last.place.about()["steps"] == 14 and "steps_in_all" not in last.place.about()
    (job.place.directory / "connote.json").delete()
    train(job)
    assert job.place.about() == about
    # And another training goes on from it.
    more = job_of(tmp_path / "c", max_steps=1, start=job.place.directory.uri, learning_rate=1e-12)
    train(more)
    for name, value in weights(job).items():
        np.testing.assert_allclose(weights(more)[name], value, atol=1e-6)
    with pytest.raises(RecipeError, match=r"select: chosen on held-out images; set data\.validation above 0"):
        job_of(tmp_path / "d", select="best", data={"validation": 0})


def test_a_damaged_best_does_not_drive_out_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path, select="best", keep=1)
    by_step = {5: 0.9, 10: 0.8, 14: 0.1}

    def score(scores: Any) -> float:
        return by_step.get(steps[-1], 0.0)

    steps = [0]
    monkeypatch.setattr(working, "score", score)
    keep = working._Worker._keep

    def noted(self: Any, scores: Any) -> None:
        steps.append(self.state.step)
        keep(self, scores)

    monkeypatch.setattr(working._Worker, "_keep", noted)
    with pytest.raises(Stopped):
        train(job, stop_after=8)
    damaged = Path(job.place.checkpoints.uri) / "step-00000005" / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert "the model is that of step 10, the best of the validations on the way" in train(job)


def test_a_best_step_needs_several_validations(tmp_path: Path) -> None:
    said = train(job_of(tmp_path, select="best", max_steps=3, validate_every=5))
    assert any("only validation is at the end; set finetune.validate_every below 3" in line for line in said)
