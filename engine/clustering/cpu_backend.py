"""UMAP and HDBSCAN on processors.

UMAP's own optimisation of a layout takes most of its time. Here it starts from one that EVoC's
node embedding (of UMAP's authors) finds in a few passes, and needs a seventh of its epochs, a third for
a plane of many rows: docs/methods.md has the figures. Both layouts share one graph of neighbours.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

import hdbscan
import numpy as np
import umap
from evoc.graph_construction import neighbor_graph_matrix
from evoc.knn_graph import knn_graph
from evoc.label_propagation import label_propagation_init
from evoc.node_embedding import node_embedding
from numpy.typing import NDArray

from engine.clustering.protocol import Clusters
from engine.neighbours import nearest
from engine.recipe.analysis import Cluster

#: Up to so many rows neighbours are searched exactly, which is as fast there.
EXACT_ROWS = 10_000
#: Epochs of the node embedding.
_FIRST_EPOCHS = 50
#: UMAP's epochs after it, and the share of its usual learning rate. A plane of many rows settles later: it
#: has less room than the space to be clustered in.
_FEW, _MORE = (30, 0.3), (60, 0.5)
_MANY_ROWS = 25_000
#: UMAP's own way where a graph is too small for label propagation to halve.
_SMALL = 500

# What takes longest to compile is kept on the disk, as evoc and pynndescent keep theirs: some
# seconds less in every process that fits. UMAP's epochs are not: numba would take the compiled
# code of one thread for that of many, since both are made of one function.
for _compiled in (umap.umap_.smooth_knn_dist, umap.umap_.compute_membership_strengths):
    _compiled.enable_caching()


class CpuBackend:
    """See `Backend`."""

    def versions(self) -> dict[str, str]:
        """See `Backend`."""
        return {name: version(name) for name in ("umap-learn", "hdbscan", "evoc")}

    def layouts(
        self, vectors: NDArray[Any], settings: Cluster, seed: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The map and the space; seeded ones are laid out by one thread."""
        rows = np.ascontiguousarray(vectors, np.float32)
        graph = neighbour_graph(rows, settings.neighbours, seed)
        effort = _MORE if len(rows) > _MANY_ROWS else _FEW
        plane = _layout(rows, graph, 2, settings.min_dist, seed, effort)
        return plane, _layout(rows, graph, settings.dimensions, 0.0, seed, _FEW)

    def clusters(self, space: NDArray[np.float32], settings: Cluster) -> Clusters:
        """hdbscan: at these few dimensions as fast as fast_hdbscan, and it tells persistence."""
        found = hdbscan.HDBSCAN(
            min_cluster_size=settings.min_cluster_size,
            min_samples=settings.min_samples,
            cluster_selection_epsilon=float(settings.epsilon),
            cluster_selection_method=settings.select,
            core_dist_n_jobs=1,
        ).fit(np.asarray(space, np.float64))
        return Clusters(
            found.labels_.astype(np.int32),
            found.probabilities_.astype(np.float32),
            np.asarray(found.cluster_persistence_, np.float64),
            found.condensed_tree_.to_numpy(),
        )


def neighbour_graph(
    vectors: NDArray[np.float32], count: int, seed: int | None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The rows nearest to each row, itself first, and their Euclidean distances.

    Exact up to `EXACT_ROWS`; above, by nearest neighbour descent, which finds 98 % of them. With a
    seed by one thread: threads part the rows among them, and find others when they are more.

    Returns:
        (n, count) int32, (n, count) float32.
    """
    if len(vectors) <= EXACT_ROWS:
        indices = nearest(vectors, vectors, count).rows
    else:
        state, threads = np.random.RandomState(seed or 0), None if seed is None else 1
        indices, _ = knn_graph(vectors, n_neighbors=count, random_state=state, n_jobs=threads)
    indices = _itself_first(np.asarray(indices, np.int64)[:, :count])
    distances = np.empty(indices.shape, np.float32)
    for start in range(0, len(vectors), 4096):
        some = slice(start, start + 4096)
        cosines = np.einsum("nd,nkd->nk", vectors[some], vectors[indices[some]])
        distances[some] = np.sqrt(np.maximum(2 - 2 * cosines, 0))
    distances[:, 0] = 0
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1).astype(np.int32), np.take_along_axis(distances, order, 1)


def _itself_first(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row's own number in front: among duplicates another may have been found in its place."""
    own = np.arange(len(indices))[:, None]
    there = indices == own
    # Where the row is not among its own neighbours, the last of them gives way.
    there[~there.any(axis=1), -1] = True
    order = np.argsort(~there, axis=1, kind="stable")
    moved = np.take_along_axis(indices, order, 1)
    moved[:, :1] = own
    return moved


def _layout(
    vectors: NDArray[np.float32],
    graph: tuple[NDArray[np.int32], NDArray[np.float32]],
    dimensions: int,
    min_dist: float,
    seed: int | None,
    effort: tuple[int, float],
) -> NDArray[np.float32]:
    indices, distances = graph
    small = len(vectors) < _SMALL
    start: Any = "random" if len(vectors) <= dimensions + 1 else "spectral"
    if not small:
        start = _first_layout(vectors, graph, dimensions, seed or 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed costs its threads, which is known
        model = umap.UMAP(
            n_neighbors=indices.shape[1],
            n_components=dimensions,
            min_dist=min_dist,
            precomputed_knn=(indices, distances),
            init=start,
            n_epochs=None if small else effort[0],
            learning_rate=1.0 if small else effort[1],
            random_state=seed,
            transform_seed=0,
        )
        return np.asarray(model.fit_transform(vectors), np.float32)


def _first_layout(
    vectors: NDArray[np.float32],
    graph: tuple[NDArray[np.int32], NDArray[np.float32]],
    dimensions: int,
    seed: int,
) -> NDArray[np.float32]:
    matrix = neighbor_graph_matrix(graph[0].shape[1], *graph)
    state = np.random.RandomState(seed)
    start = label_propagation_init(matrix, n_components=dimensions, data=vectors, random_state=state)
    # Its steps are deterministic for a seed, on any number of threads.
    found = node_embedding(
        matrix, dimensions, _FIRST_EPOCHS, initial_embedding=start, initial_alpha=0.1, random_state=state
    )
    return np.ascontiguousarray(found, np.float32)
