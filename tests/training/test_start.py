"""Going on from a model that was trained before: `finetune.start`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import RecipeError
from engine.training.start import check_start
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
