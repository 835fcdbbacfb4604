"""UMAP and HDBSCAN on an NVIDIA GPU, by cuML."""

from __future__ import annotations

from typing import Any

import cuml
import numpy as np
from cuml.cluster import HDBSCAN
from cuml.manifold import UMAP
from numpy.typing import NDArray

from engine.clustering.protocol import Clusters
from engine.recipe.analysis import Cluster

#: Above so many rows neighbours are found by descent where the result need not repeat itself ...
_EXACT_ROWS = 50_000
#: ... and above so many in partitions, of which two at a time lie on the GPU.
_PARTITION_ROWS = 250_000


class CumlBackend:
    """See `Backend`. Data lie in the host's memory; cuML moves what it needs."""

    def versions(self) -> dict[str, str]:
        """See `Backend`; asked of the module, since its package has another name for each CUDA."""
        return {"cuml": cuml.__version__}

    def layouts(
        self, vectors: NDArray[Any], settings: Cluster, seed: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The map and the space; seeded, neighbours are found by brute force, which repeats itself."""
        rows = np.ascontiguousarray(vectors, np.float32)
        plane = self._layout(rows, 2, settings.min_dist, settings.neighbours, seed)
        return plane, self._layout(rows, settings.dimensions, 0.0, settings.neighbours, seed)

    def clusters(self, space: NDArray[np.float32], settings: Cluster) -> Clusters:
        """HDBSCAN over the space."""
        found = HDBSCAN(
            min_cluster_size=settings.min_cluster_size,
            min_samples=settings.min_samples,
            cluster_selection_epsilon=float(settings.epsilon),
            cluster_selection_method=settings.select,
            output_type="numpy",
        )
        found.fit(np.ascontiguousarray(space, np.float32))
        return Clusters(
            np.asarray(found.labels_, np.int32),
            np.asarray(found.probabilities_, np.float32),
            np.asarray(found.cluster_persistence_, np.float64),
            found.condensed_tree_.to_numpy(),
        )

    def _layout(
        self, rows: NDArray[np.float32], dimensions: int, min_dist: float, neighbours: int, seed: int | None
    ) -> NDArray[np.float32]:
        descent = seed is None and len(rows) > _EXACT_ROWS
        partitions = -(-len(rows) // _PARTITION_ROWS)
        model = UMAP(
            n_neighbors=neighbours,
            n_components=dimensions,
            min_dist=min_dist,
            random_state=seed,
            build_algo="nn_descent" if descent else "brute_force_knn",
            # cuML wants more partitions than each row is searched in, which are two.
            build_kwds={"knn_n_clusters": partitions if partitions > 2 else 1} if descent else None,
            output_type="numpy",
        )
        return np.asarray(model.fit_transform(rows), np.float32)
