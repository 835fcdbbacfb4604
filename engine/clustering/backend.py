"""Who computes a fit: processors or an NVIDIA GPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from engine.clustering.protocol import Backend
from engine.errors import RecipeError

Name = Literal["cpu", "cuml"]


def choose(name: Literal["auto", "cpu", "cuml"], gpus: float) -> Name:
    """The backend to use on this machine.

    Args:
        name: what the recipe asks for.
        gpus: that were reserved. Ray shows a task the others as well, which somebody else may have.

    Raises:
        RecipeError: cuml is asked for where there is no GPU or no cuML, or none was reserved.
    """
    if name == "cpu":
        return "cpu"
    import torch

    lacking = [
        what
        for what, there in (
            ("a GPU that the job reserved", gpus > 0),
            ("an NVIDIA GPU", torch.cuda.is_available()),
            ("the package cuML", find_spec("cuml") is not None),
        )
        if not there
    ]
    if not lacking:
        return "cuml"
    if name == "auto":
        return "cpu"
    raise RecipeError(
        f"cluster.backend: cuml needs what the fit does not have: {', '.join(lacking)}; give the job GPUs "
        "(cluster.gpus) and requirements/gpu.txt, or write cpu or auto"
    )


def load(name: Name) -> Backend:
    """The backend, with its libraries imported."""
    if name == "cuml":
        from engine.clustering.cuml_backend import CumlBackend

        return CumlBackend()
    from engine.clustering.cpu_backend import CpuBackend

    return CpuBackend()
