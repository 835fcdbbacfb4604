"""What the rest of clustering knows of a backend: rows in, layouts and clusters out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.recipe.analysis import Cluster


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

    def versions(self) -> dict[str, str]:
        """The libraries that compute, and their versions, for people."""
        ...

    def layouts(
        self, vectors: NDArray[Any], settings: Cluster, seed: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The map (n, 2) and the space that is clustered (n, settings.dimensions) of unit rows (n, d)."""
        ...

    def clusters(self, space: NDArray[np.float32], settings: Cluster) -> Clusters:
        """HDBSCAN over the space."""
        ...
