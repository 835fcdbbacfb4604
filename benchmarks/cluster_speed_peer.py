"""The peer of `cluster_speed`: umap-learn and hdbscan as their documentation shows them."""

from __future__ import annotations

import time
import warnings
from typing import Any

import hdbscan
import numpy as np
import umap
from numpy.typing import NDArray

from engine.recipe.analysis import Cluster

warnings.filterwarnings("ignore", module="umap")  # among them that a spectral start did not succeed


class Plain:
    """A map, a space and the clusters of it, by one call of a library each.

    Attributes:
        plane: (n, 2), the map.
        space: (n, dimensions), what is clustered.
        label: (n,), -1 is noise.
        seconds: of all three.
        parts: of each.
    """

    def __init__(self, vectors: NDArray[np.float32], settings: Cluster) -> None:
        self._count = settings.neighbours
        moments = [time.perf_counter()]
        self._to_plane = umap.UMAP(n_neighbors=self._count, n_components=2, min_dist=settings.min_dist)
        self.plane = self._to_plane.fit_transform(vectors)
        moments.append(time.perf_counter())
        self._to_space = umap.UMAP(n_neighbors=self._count, n_components=settings.dimensions, min_dist=0.0)
        self.space = self._to_space.fit_transform(vectors)
        moments.append(time.perf_counter())
        self._clusters = hdbscan.HDBSCAN(
            min_cluster_size=settings.min_cluster_size, min_samples=settings.min_samples
        ).fit(self.space)
        moments.append(time.perf_counter())
        self.label = self._clusters.labels_
        self.seconds = moments[-1] - moments[0]
        self.parts = dict(zip(("plane", "space", "clusters"), np.diff(moments).tolist(), strict=True))

    def place(self, vectors: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
        """The plane, the space and the clusters of new rows, and the seconds this took."""
        self._clusters.generate_prediction_data()
        started = time.perf_counter()
        plane, space = self._to_plane.transform(vectors), self._to_space.transform(vectors)
        label, _ = hdbscan.approximate_predict(self._clusters, space)
        return plane, space, label, time.perf_counter() - started
