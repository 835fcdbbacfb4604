"""HDBSCAN's condensed tree: outlier scores, and the cluster that a new point would fall into.

The tree alone decides both, so a fit by any backend is kept as plain arrays: hdbscan's own
predictor is an object that could only be pickled, and cuML has no outlier scores. Same results as
`hdbscan.approximate_predict`, `approximate_predict_scores` and `outlier_scores_`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Predicted:
    """Of each new point: label (int32, -1 is noise), strength and outlier score (float32, 0 to 1)."""

    label: NDArray[np.int32]
    strength: NDArray[np.float32]
    outlier: NDArray[np.float32]


class Tree:
    """The condensed tree of a fit.

    Args:
        rows: (parent, child, lambda_val, child_size); points are numbered from 0, clusters from n.
        label: (n,), int32, the points' clusters.
    """

    def __init__(self, rows: NDArray[Any], label: NDArray[np.int32]) -> None:
        count = self._count = len(label)
        parent, child = rows["parent"].astype(np.int64), rows["child"].astype(np.int64)
        lam = rows["lambda_val"].astype(np.float64)
        nodes = int(max(parent.max(initial=count - 1), child.max(initial=count - 1))) + 1 - count
        point = child < count
        # Where each point fell out of the tree, and at which density.
        self.home = np.zeros(count, np.int64)
        self.left = np.zeros(count)
        self.home[child[point]], self.left[child[point]] = parent[point] - count, lam[point]
        # Each cluster's parent (the root is its own) and the density at which it was born.
        self.above, self.born = np.arange(nodes), np.zeros(nodes)
        self.above[child[~point] - count], self.born[child[~point] - count] = (
            parent[~point] - count,
            lam[~point],
        )
        self.last = np.zeros(nodes)  # the highest density at which something left the cluster itself
        np.maximum.at(self.last, parent - count, lam)
        self.deepest = self.last.copy()  # or any cluster below it: these have higher numbers
        self.label = _labels_of_nodes(self, label)
        for node in range(nodes - 1, 0, -1):
            self.deepest[self.above[node]] = max(self.deepest[self.above[node]], self.deepest[node])
        self.peak = _peaks(self)

    def outliers(self) -> NDArray[np.float32]:
        """The outlier score (GLOSH) of each fitted point: (n,), float32."""
        return _below(self.deepest[self.home], self.left)


class Predictor:
    """Tells which cluster a new point would fall into, as hdbscan's approximate prediction does.

    Args:
        tree: of the fit.
        space: (n, k), the fitted points.
        min_samples: of the fit.
        threads: that search at once.
    """

    def __init__(self, tree: Tree, space: NDArray[Any], min_samples: int, threads: int = 1) -> None:
        self._threads = threads
        self._tree, self._samples = tree, min(min_samples, len(space))
        self._points = cKDTree(np.asarray(space, np.float64))
        core, _ = self._points.query(self._points.data, k=[self._samples], workers=self._threads)
        self._core = core[:, 0]

    def predict(self, points: NDArray[Any]) -> Predicted:
        """Place points (m, k)."""
        tree, count = self._tree, len(self._core)
        asked = min(2 * self._samples, count)
        distance, index = self._points.query(
            np.asarray(points, np.float64), k=range(1, asked + 1), workers=self._threads
        )
        own_core = distance[:, min(self._samples, asked - 1)]
        # Mutual reachability: the point is reached from the neighbour whose density is nearest.
        reach = np.maximum(np.maximum(self._core[index], distance), own_core[:, None])
        best = reach.argmin(axis=1)[:, None]
        near, reach = np.take_along_axis(index, best, 1)[:, 0], np.take_along_axis(reach, best, 1)[:, 0]
        with np.errstate(divide="ignore"):
            lam = np.where(reach > 0, 1 / reach, np.inf)
        node = tree.home[near]
        # It leaves the tree before its neighbour does: in that one's cluster, or in one above it.
        climbing = tree.left[near] > lam
        while (climbing := climbing & (node > 0) & (tree.born[node] >= lam)).any():
            node = np.where(climbing, tree.above[node], node)
        label = tree.label[node]
        strength = np.where(label >= 0, _share(lam, tree.peak[label]), 0)
        # A point that was fitted itself leaves where it left: its neighbour is its own copy.
        lam = np.where(distance[:, 0] == 0, tree.left[near], lam)
        return Predicted(label, strength.astype(np.float32), _below(tree.deepest[tree.home[near]], lam))


def _labels_of_nodes(tree: Tree, label: NDArray[np.int32]) -> NDArray[np.int32]:
    """The cluster that each node of the tree belongs to; -1 above all clusters.

    Which nodes were selected is not told by all backends, but by the points: below a selected node
    all have one label, and above it they have several or none.
    """
    nodes = len(tree.above)
    low, high = np.full(nodes, np.iinfo(np.int32).max), np.full(nodes, -2)
    np.minimum.at(low, tree.home, label)
    np.maximum.at(high, tree.home, label)
    for node in range(nodes - 1, 0, -1):
        above = tree.above[node]
        low[above], high[above] = min(low[above], low[node]), max(high[above], high[node])
    return np.where(low == high, low, -1).astype(np.int32)


def _peaks(tree: Tree) -> NDArray[np.float64]:
    """The highest density of each cluster: of its topmost node."""
    clusters = int(tree.label.max(initial=-1)) + 1
    peaks = np.zeros(max(clusters, 1))
    top = (tree.label >= 0) & (
        (tree.label[tree.above] != tree.label) | (tree.above == np.arange(len(tree.above)))
    )
    peaks[tree.label[top]] = tree.last[top]
    return peaks


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    capped = np.minimum(part, whole)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = capped / whole
    return np.where(np.isfinite(whole) & (whole > 0), share, 1.0)


def _below(highest: NDArray[np.float64], lam: NDArray[np.float64]) -> NDArray[np.float32]:
    """How far below the highest density around it a point left the tree: 0 to 1."""
    with np.errstate(invalid="ignore", divide="ignore"):
        score = (highest - lam) / highest
    fine = np.isfinite(score) & (highest > 0)
    return np.clip(np.where(fine, score, 0.0), 0, 1).astype(np.float32)
