"""Directions around some centres, their fits, and what must hold of every fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.clustering.fitted import Fit
from engine.recipe.analysis import Cluster

Vectors = NDArray[np.float32]
COLUMNS = ("plane", "space", "label", "strength", "outlier")


def settings(**changed: Any) -> Cluster:
    return Cluster(encoder="hf:a/b", **{"min_cluster_size": 20, **changed})


def units(rows: NDArray[Any]) -> Vectors:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(
    clusters: int, size: int, width: int, spread: float = 0.5, seed: int = 0, draw: int = 0
) -> tuple[Vectors, NDArray[np.int64]]:
    """Directions around some centres (of `seed`), in a mixed order; the truth beside them."""
    middles = units(np.random.default_rng(seed).normal(size=(clusters, width)))
    rng = np.random.default_rng(1000 + draw)
    truth = rng.permutation(np.repeat(np.arange(clusters), size))
    noise = rng.normal(size=(len(truth), width)) * spread / np.sqrt(width)
    return units(middles[truth] + noise), truth


def ids(count: int, seed: int = 0) -> NDArray[np.uint64]:
    """Ids as numbers: all 64 bits, in no order."""
    numbers = np.unique(np.random.default_rng(seed).integers(2**64, size=2 * count, dtype=np.uint64))
    return np.random.default_rng(seed + 1).permutation(numbers)[:count]


def same(one: Fit, other: Fit) -> None:
    """Equal to the last bit."""
    for name in ("numbers", "vectors", "persistence"):
        equal(getattr(one, name), getattr(other, name), name)
    for name in COLUMNS:
        equal(getattr(one.placed, name), getattr(other.placed, name), name)
    for name in ("parent", "child", "lambda_val", "child_size"):
        equal(one.tree[name], other.tree[name], name)


def equal(one: NDArray[Any], other: NDArray[Any], name: str) -> None:
    assert one.dtype == other.dtype and one.shape == other.shape, name
    assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes(), name


def sound(made: Fit) -> None:
    """What must hold of every fit."""
    rows, placed = len(made.numbers), made.placed
    assert (np.diff(made.numbers.astype(object)) > 0).all()
    assert placed.plane.shape == (rows, 2) and placed.plane.dtype == np.float32
    assert placed.label.shape == (rows,) and placed.label.dtype == np.int32
    assert set(placed.label.tolist()) - {-1} == set(range(len(made.persistence)))
    for name in COLUMNS:
        assert np.isfinite(getattr(placed, name)).all(), name
    for name in ("strength", "outlier"):
        values = getattr(placed, name)
        assert values.dtype == np.float32 and values.min() >= 0 and values.max() <= 1, name
    assert (placed.strength[placed.label < 0] == 0).all()
