"""Who computes a fit on this machine."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from engine.clustering import backend
from engine.clustering.backend import choose, load
from engine.errors import RecipeError


def test_cuml_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU, too, which is hidden here."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError) as refused:
        choose("cuml", 1)
    message = str(refused.value)
    assert message.startswith("cluster.backend: cuml needs what the fit does not have: ")
    assert "an NVIDIA GPU" in message
    assert ("the package cuML" in message) == (find_spec("cuml") is None)
    assert "cluster.gpus" in message and "write cpu or auto" in message
    assert choose("auto", 1) == "cpu"


@pytest.mark.parametrize(
    ("gpu", "package", "lacks"),
    [
        (True, True, None),
        (True, False, "not have: the package cuML; give"),
        (False, True, "not have: an NVIDIA GPU; give"),
        (False, False, "not have: an NVIDIA GPU, the package cuML; give"),
    ],
)
def test_what_is_chosen(monkeypatch: pytest.MonkeyPatch, gpu: bool, package: bool, lacks: str | None) -> None:
    def spec(name: str) -> Any:
        assert name == "cuml"
        return object() if package else None

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(backend, "find_spec", spec)
    assert choose("cpu", 1) == "cpu"
    assert choose("auto", 1) == ("cpu" if lacks else "cuml")
    if lacks is None:
        assert choose("cuml", 1) == "cuml"
    else:
        with pytest.raises(RecipeError, match=lacks):
            choose("cuml", 1)
    # Ray does not hide the machine's GPUs from a task that reserves none; somebody else may have them.
    assert choose("auto", 0) == "cpu"
    with pytest.raises(RecipeError, match=r"not have: a GPU that the job reserved"):
        choose("cuml", 0)


def test_the_processors_backend_loads_no_gpu_library() -> None:
    import sys

    made = load("cpu")
    assert type(made).__name__ == "CpuBackend" and callable(made.layouts) and callable(made.clusters)
    assert "cuml" not in sys.modules
