"""Who computes a fit: processors or an NVIDIA GPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import RecipeError
from engine.recipe.analysis import Cluster

Name = Literal["cpu", "cuml"]


@dataclass(frozen=True)
class Clusters:
    """What HDBSCAN says of the fitted points.

    Attributes:
        label: (n,), int32; -1 is noise.
        strength: (n,), float32: how firmly each belongs to its cluster, 0 to 1.
        persistence: (clusters,), float64: how long each cluster lasts while the density rises.
        tree: the condensed tree, rows of (parent, child, lambda_val, child_size): the points are
            numbered from 0, the clusters from n.
    """

    label: NDArray[np.int32]
    strength: NDArray[np.float32]
    persistence: NDArray[np.float64]
    tree: NDArray[Any]


class Backend(Protocol):
    """The two steps of a fit. With `seed` None a result may differ from run to run."""

    def layouts(
        self, vectors: NDArray[Any], settings: Cluster, seed: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The map (n, 2) and the space that is clustered (n, settings.dimensions) of unit rows (n, d)."""
        ...

    def clusters(self, space: NDArray[np.float32], settings: Cluster) -> Clusters:
        """HDBSCAN over the space."""
        ...


def choose(name: Literal["auto", "cpu", "cuml"]) -> Name:
    """The backend to use on this machine.

    Raises:
        RecipeError: cuml is asked for where there is no GPU or no cuML.
    """
    if name == "cpu":
        return "cpu"
    import torch

    lacking = [
        what
        for what, there in (
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
        f"cluster.backend: cuml needs {' and '.join(lacking)}, which the node that fits does not have; "
        "give the job GPUs (cluster.gpus) and requirements/gpu.txt, or write cpu or auto"
    )


def load(name: Name) -> Backend:
    """The backend, with its libraries imported."""
    if name == "cuml":
        from engine.clustering.cuml_backend import CumlBackend

        return CumlBackend()
    from engine.clustering.cpu_backend import CpuBackend

    return CpuBackend()
