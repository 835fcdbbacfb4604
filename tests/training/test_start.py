"""Going on from a model that was trained before: `finetune.start`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import RecipeError, StorageError
from engine.schema import LEVELS
from engine.training.job import Job
from engine.training.start import check_start, learned_levels
from tests.training.worker import Stopped, begun, job_of, train, weights


def test_weights_are_gone_on_from_under_another_name(tmp_path: Path) -> None:
    first = job_of(tmp_path / "a", max_steps=4)
    train(first)
    second = job_of(tmp_path / "b", max_steps=4, start=first.place.directory.uri, learning_rate=1e-12)
    train(second)
    for name, value in weights(first).items():
        np.testing.assert_allclose(weights(second)[name], value, atol=1e-6)
    with pytest.raises(RecipeError, match=r"finetune\.start: .* by method full; its weights fit that model"):
        train(job_of(tmp_path / "c", method="lora", start=first.place.directory.uri))


def test_of_averaged_weights_the_average_is_gone_on_from(tmp_path: Path) -> None:
    first = job_of(tmp_path / "a", max_steps=4, ema=0.5)
    train(first)
    second = job_of(tmp_path / "b", max_steps=1, start=first.place.directory.uri, learning_rate=1e-12)
    train(second)
    for name, value in weights(first).items():
        np.testing.assert_allclose(weights(second)[name], value, atol=1e-6)
    mixed = job_of(tmp_path / "c", max_steps=4, interpolate=[1])
    train(mixed)
    with pytest.raises(RecipeError, match=r"was interpolated, .* name what it holds as finetune\.model"):
        train(job_of(tmp_path / "d", start=mixed.place.directory.uri))


@pytest.mark.parametrize(
    ("method", "then", "named"),
    [
        ("lora", {"adapter": {"rank": 2}}, r"finetune\.adapter\.rank 2, and here it is 8"),
        ("lora", {"adapter": {"alpha": 4}}, r"finetune\.adapter\.alpha 4\.0, and here it is 8\.0"),
        ("pvse", {"adapter": {"embeddings": 1}}, r"finetune\.adapter\.embeddings 1, and here it is 2"),
        (
            "full",
            {"towers": ["text"]},
            r"finetune\.towers \['text'\], and here it is \['image', 'text'\]",
        ),
    ],
)
def test_weights_of_another_shape_are_not_gone_on_from(
    tmp_path: Path, method: str, then: dict[str, Any], named: str
) -> None:
    first = job_of(tmp_path / "a", method=method, max_steps=1, **then)
    train(first)
    second = job_of(tmp_path / "b", method=method, start=first.place.directory.uri)
    with pytest.raises(RecipeError, match=rf"finetune\.start: \S* was trained with {named}; set"):
        check_start(second.settings)
    with pytest.raises(RecipeError, match="holds no whole checkpoint"):
        check_start(begun(second, start=str(tmp_path / "nothing")).settings)


@pytest.mark.parametrize(("then", "now"), [("infonce", "sigmoid"), ("sigmoid", "infonce")])
def test_a_bias_of_one_loss_alone_is_not_gone_on_from(tmp_path: Path, then: str, now: str) -> None:
    first = job_of(tmp_path / "a", max_steps=1, loss=then)
    train(first)
    second = job_of(tmp_path / "b", max_steps=1, loss=now, start=first.place.directory.uri)
    with pytest.raises(
        RecipeError, match=rf"was trained with finetune\.loss {then}, and here it is {now}; set"
    ):
        check_start(second.settings)
    check_start(begun(second, loss=then).settings)


def test_weights_that_do_not_fit_leave_the_start_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another bias; who reads that must not delete the model that was to be gone on from."""
    first = job_of(tmp_path / "a", max_steps=1)
    train(first)
    second = job_of(tmp_path / "b", max_steps=1, loss="sigmoid", start=first.place.directory.uri)
    monkeypatch.setattr("engine.training.start.check_start", lambda _: None)
    with pytest.raises(StorageError, match=r"\(missing: logit_bias\); finetune\.start must be") as told:
        train(second)
    assert "delete" not in str(told.value)


def test_levels_that_the_start_has_learned_are_learned(tmp_path: Path) -> None:
    def prefix(name: str, level: str, **more: Any) -> Job:
        data = {"levels": [level], "validation": 0.2}
        return job_of(tmp_path / name, method="prefix", max_steps=1, data=data, **more)

    first = prefix("a", "metaphor")
    train(first)
    second = prefix("b", "synonym", start=first.place.directory.uri)
    train(second)
    third = prefix("c", "broader", start=second.place.directory.uri)
    assert first.place.about()["levels"] == ["metaphor"]
    assert second.place.about()["levels"] == ["synonym", "metaphor"]
    assert learned_levels(third.settings) == ("synonym", "broader", "metaphor")
    shutil.rmtree(second.place.directory.uri)
    assert learned_levels(third.settings) == LEVELS


def test_a_damaged_start_is_told_and_the_checkpoint_before_it_taken(tmp_path: Path) -> None:
    first = job_of(tmp_path / "a", max_steps=4)
    train(first)
    newest = Path(first.place.checkpoints.uri) / "step-00000004" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    said = train(job_of(tmp_path / "b", max_steps=1, start=first.place.directory.uri))
    assert any("weights.safetensors has" in line and "step-00000002 is used instead" in line for line in said)
    assert f"starting from {first.place.directory.uri}, step-00000002" in said


def test_what_is_mixed_in_is_what_training_began_with(tmp_path: Path) -> None:
    """Also where the directory that it started from has gone since."""
    first = job_of(tmp_path / "a", max_steps=2)
    train(first)
    wanted = weights(first)
    mixed = job_of(tmp_path / "b", max_steps=4, start=first.place.directory.uri, interpolate=[0])
    with pytest.raises(Stopped):
        train(mixed, stop_after=3)
    shutil.rmtree(first.place.directory.uri)
    train(mixed)
    assert all(np.array_equal(weights(mixed)[name], value) for name, value in wanted.items())


def test_a_resumed_training_needs_its_start_no_more(tmp_path: Path) -> None:
    first = job_of(tmp_path / "a", max_steps=2)
    train(first)
    second = job_of(tmp_path / "b", max_steps=4, start=first.place.directory.uri)
    with pytest.raises(Stopped):
        train(second, stop_after=3)
    shutil.rmtree(first.place.directory.uri)
    assert train(second)[0].startswith("going on from step 2 of")
