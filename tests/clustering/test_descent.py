"""Neighbours by descent, above EXACT_ROWS, and the graph of both ways, against the libraries' own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import hdbscan
import numba
import numpy as np
import pytest
import umap
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score

from engine.clustering import cpu_backend
from engine.clustering.fitted import fit
from engine.neighbours import nearest
from tests.clustering.blobs import Vectors, blobs, ids, same, settings, sound


def trustworthiness(vectors: Vectors, plane: NDArray[Any], rows: NDArray[np.int64], count: int) -> float:
    """Venna and Kaski 2001 of some rows among all: ranks are counted over the whole data set."""
    near = cKDTree(plane).query(plane[rows], count + 1)[1]
    total, everything = 0, vectors.astype(np.float64)
    for row, others in zip(rows, near, strict=True):
        cosines = everything @ everything[row]
        others = others[others != row][:count]
        # How many are nearer: itself is the one for which 1 is taken off, and a rank begins at 1.
        rank = (cosines[None] > cosines[others][:, None]).sum(axis=1)
        total += int(np.maximum(rank - count, 0).sum())
    n = len(vectors)
    return 1 - 2 * total / (len(rows) * count * (2 * n - 3 * count - 1))


def test_trustworthiness_is_sklearns_where_all_rows_are_asked() -> None:
    from sklearn.manifold import trustworthiness as sklearns

    vectors, _ = blobs(5, 40, 8)
    plane = np.random.default_rng(0).normal(size=(200, 2)) + 3 * vectors[:, :2]
    expected = sklearns(vectors, plane, n_neighbors=15)
    assert 0.5 < expected < 0.95
    assert trustworthiness(vectors, plane, np.arange(200), 15) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:n_jobs value", "ignore:precomputed_knn")
def test_the_descent_is_deterministic_and_as_good_as_the_libraries() -> None:
    vectors, truth = blobs(30, 350, 16, spread=0.6)
    assert len(vectors) > cpu_backend.EXACT_ROWS
    numbers, asked = ids(len(vectors)), settings(min_cluster_size=50)
    order = np.argsort(numbers)
    made = fit(numbers, vectors, asked, "cpu", 1)
    sound(made)
    same(made, fit(numbers[order], vectors[order], asked, "cpu", 1))

    vectors, truth = vectors[order], truth[order]
    exact = nearest(vectors, vectors, 15)
    distances = np.sqrt(np.maximum(2 - 2 * exact.scores, 0)).astype(np.float32)
    knn = (exact.rows.astype(np.int32), distances)
    found, _ = cpu_backend.neighbour_graph(vectors, 15, 1)
    recall = np.mean([len(set(a) & set(b)) for a, b in zip(found, exact.rows, strict=True)]) / 15
    assert recall > 0.95

    plain = [
        umap.UMAP(n_components=width, min_dist=gap, precomputed_knn=knn, random_state=1).fit_transform(
            vectors
        )
        for width, gap in ((2, 0.1), (5, 0.0))
    ]
    theirs = hdbscan.HDBSCAN(min_cluster_size=50, min_samples=10, core_dist_n_jobs=1)
    labels = theirs.fit(plain[1].astype(np.float64)).labels_
    assert adjusted_rand_score(truth, made.placed.label) > adjusted_rand_score(truth, labels) - 0.01
    rows = np.random.default_rng(0).choice(len(vectors), 1500, replace=False)
    ours = trustworthiness(vectors, made.placed.plane, rows, 15)
    assert ours > trustworthiness(vectors, plain[0], rows, 15) - 0.01
    assert ours < 1


def test_the_graph_of_neighbours() -> None:
    vectors, _ = blobs(3, 40, 8)
    rows = np.concatenate([vectors, vectors[:30], vectors[:30]])  # thirty there three times
    indices, distances = cpu_backend.neighbour_graph(rows, 7, 0)
    assert indices.dtype == np.int32 and distances.dtype == np.float32 and indices.shape == (180, 7)
    np.testing.assert_array_equal(indices[:, 0], np.arange(180))
    assert all(len(set(row)) == 7 for row in indices.tolist()), "each neighbour once"
    assert (distances[:, 0] == 0).all() and (np.diff(distances, axis=1) >= 0).all()
    whole = rows.astype(np.float64)
    expected = np.linalg.norm(whole[:, None] - whole, axis=2)
    np.testing.assert_allclose(np.take_along_axis(expected, indices, 1), distances, atol=1e-3)
    np.testing.assert_allclose(np.sort(expected, axis=1)[:, :7], distances, atol=1e-3)


_FIT = """
import hashlib
import numpy as np
from engine.clustering.fitted import fit
from tests.clustering.blobs import COLUMNS, blobs, ids, settings

told = hashlib.sha256()
# Below cpu_backend._SMALL, where UMAP begins its own way, and above it.
for clusters, size in ((6, 50), (12, 100)):
    vectors, _ = blobs(clusters, size, 16, spread=0.6)
    made = fit(ids(len(vectors)), vectors, settings(min_cluster_size=10), "cpu", 1)
    assert len(made.persistence) > 1
    for name in COLUMNS:
        told.update(np.ascontiguousarray(getattr(made.placed, name)).tobytes())
print(told.hexdigest())
"""
_THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.mark.slow
def test_with_a_seed_the_number_of_threads_decides_nothing() -> None:
    """A laptop and a cluster are to find the same clusters: also on one core two threads are made."""
    told = []
    for threads in (1, 2):
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
        command = [sys.executable, "-W", "ignore", "-c", _FIT]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told.append(ended.stdout)
    assert told[0] == told[1] != ""


def test_with_a_seed_the_number_of_threads_decides_no_neighbour() -> None:
    """Above EXACT_ROWS, where they are found by descent."""
    rows = np.random.default_rng(2).normal(size=(cpu_backend.EXACT_ROWS + 200, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    before, found = numba.get_num_threads(), []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            found.append(cpu_backend.neighbour_graph(rows, 10, 3)[0])
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(*found)
