"""How an engine's GPUs are used: all of them, and none that its actor does not have; what it compiles."""

from __future__ import annotations

import os
from typing import Any

import pytest

from engine.errors import RecipeError
from engine.generation.vllm_settings import _gpu_arguments, prepare_environment
from engine.recipe import Vllm

MP = {"distributed_executor_backend": "mp"}


def of(gpus: float, **engine: int | None) -> dict[str, Any]:
    return _gpu_arguments(Vllm(backend="vllm", model="m", gpus=gpus, engine=engine))


def test_what_is_not_said_is_tensor_parallel() -> None:
    assert of(1) == {}
    assert of(4) == {"tensor_parallel_size": 4, **MP}
    assert of(4, pipeline_parallel_size=2) == {"tensor_parallel_size": 2, **MP}
    assert of(4, tensor_parallel_size=2, pipeline_parallel_size=2) == {"tensor_parallel_size": 2, **MP}
    assert of(4, prefill_context_parallel_size=2) == {"tensor_parallel_size": 2, **MP}
    assert of(2, pipeline_parallel_size=None) == {"tensor_parallel_size": 2, **MP}
    assert of(0.25) == {"gpu_memory_utilization": pytest.approx(0.225)}


@pytest.mark.parametrize(
    ("gpus", "engine", "said"),
    [
        (1, {"tensor_parallel_size": 4}, "an actor has 1, and engine asks for 4"),
        (4, {"tensor_parallel_size": 2}, "an actor has 4, and engine asks for 2"),
        (0.5, {"tensor_parallel_size": 2}, "an actor has 0.5, and engine asks for 2"),
        (4, {"pipeline_parallel_size": 3}, "an actor has 4, and engine asks for 3"),
        (2, {"data_parallel_size": 4}, r"an actor has 2, and engine asks for 4 \(data_parallel_size 4\)"),
    ],
)
def test_other_sizes_are_refused(gpus: float, engine: dict[str, int], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        of(gpus, **engine)


@pytest.mark.parametrize(
    ("gpus", "engine", "disabled"),
    [(0, {}, "1"), (0, {"enforce_eager": False}, None), (1, {"enforce_eager": True}, None)],
)
def test_nothing_is_compiled_for_a_model_that_runs_eagerly_on_cpus(
    monkeypatch: pytest.MonkeyPatch, gpus: float, engine: dict[str, bool], disabled: str | None
) -> None:
    without = {name: value for name, value in os.environ.items() if name != "TORCHDYNAMO_DISABLE"}
    monkeypatch.setattr(os, "environ", without)
    prepare_environment(Vllm(backend="vllm", model="m", gpus=gpus, engine=engine))
    assert os.environ.get("TORCHDYNAMO_DISABLE") == disabled
