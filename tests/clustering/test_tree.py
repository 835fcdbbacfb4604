"""The condensed tree as plain arrays says what hdbscan's own objects say."""

from __future__ import annotations

import hdbscan
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clustering.tree import Predictor, Tree

Points = NDArray[np.float64]


def _blobs(seed: int, count: int = 600, centres: int = 6, width: int = 3) -> Points:
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-10, 10, (centres, width))
    points = middle[rng.integers(centres, size=count)] + rng.normal(size=(count, width)) * rng.uniform(
        0.2, 1.2, (count, 1)
    )
    points[: count // 10] = rng.uniform(-12, 12, (count // 10, width))
    return points


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "settings",
    [
        {"min_cluster_size": 15, "min_samples": 5},
        {"min_cluster_size": 40, "min_samples": 10, "cluster_selection_epsilon": 1.0},
        {"min_cluster_size": 8, "min_samples": 3, "cluster_selection_method": "leaf"},
    ],
)
def test_as_hdbscan_says(seed: int, settings: dict[str, object]) -> None:
    points, new = _blobs(seed), _blobs(seed + 100, 300)
    whole = hdbscan.HDBSCAN(prediction_data=True, core_dist_n_jobs=1, **settings).fit(points)
    tree = Tree(whole.condensed_tree_.to_numpy(), whole.labels_.astype(np.int32))
    np.testing.assert_allclose(tree.outliers(), whole.outlier_scores_, atol=1e-6)
    made = Predictor(tree, points, int(settings["min_samples"])).predict(new)  # type: ignore[call-overload]
    label, strength = hdbscan.approximate_predict(whole, new)
    assert (made.label == label).mean() == 1.0
    np.testing.assert_allclose(made.strength, strength, atol=1e-6)
    scores = hdbscan.prediction.approximate_predict_scores(whole, new)
    np.testing.assert_allclose(made.outlier, np.clip(scores, 0, 1), atol=1e-6)


def test_no_clusters_at_all() -> None:
    points = np.random.default_rng(0).uniform(size=(40, 2))
    whole = hdbscan.HDBSCAN(min_cluster_size=30, min_samples=2).fit(points)
    tree = Tree(whole.condensed_tree_.to_numpy(), whole.labels_.astype(np.int32))
    made = Predictor(tree, points, 2).predict(points[:5] + 0.01)
    assert (made.label == -1).all() and (made.strength == 0).all()
    assert ((tree.outliers() >= 0) & (tree.outliers() <= 1)).all()


def test_duplicates() -> None:
    points = np.repeat(_blobs(1, 60), 5, axis=0)
    whole = hdbscan.HDBSCAN(min_cluster_size=10, min_samples=3, prediction_data=True).fit(points)
    tree = Tree(whole.condensed_tree_.to_numpy(), whole.labels_.astype(np.int32))
    made = Predictor(tree, points, 3).predict(points)
    assert np.isfinite(made.strength).all() and np.isfinite(tree.outliers()).all()
    assert (made.label == whole.labels_).mean() > 0.9
