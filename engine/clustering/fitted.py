"""A fit: the sample that was laid out and clustered, and where any other image falls in it."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.clustering.backend import Name, load
from engine.clustering.tables import read_about
from engine.clustering.tree import Predictor, Tree
from engine.device import device_of
from engine.embeddings import rows_of
from engine.errors import RecipeError
from engine.neighbours import nearest
from engine.recipe.analysis import Cluster
from engine.storage import Location

_TREE = ("parent", "child", "lambda_val", "child_size")


@dataclass(frozen=True)
class Placed:
    """Where images lie.

    Attributes:
        plane: (n, 2), float32: coordinates on the map.
        space: (n, dimensions), float32: in the space that was clustered.
        label: (n,), int32: the cluster; -1 is noise.
        strength: (n,), float32: how firmly it belongs there, 0 to 1.
        outlier: (n,), float32: outlier score (GLOSH), 0 to 1.
    """

    plane: NDArray[np.float32]
    space: NDArray[np.float32]
    label: NDArray[np.int32]
    strength: NDArray[np.float32]
    outlier: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64]) -> Placed:
        """Those of some rows."""
        return Placed(
            self.plane[rows], self.space[rows], self.label[rows], self.strength[rows], self.outlier[rows]
        )


@dataclass(frozen=True)
class Fit:
    """The fitted sample and its clusters.

    Attributes:
        numbers: (n,), uint64: the samples' ids as numbers, ascending.
        vectors: (n, d), unit rows.
        placed: where they lie.
        persistence: (clusters,), float64.
        tree: the condensed tree; see `engine.clustering.tree`.
        about: backend, mode, versions, seconds: for people.
    """

    numbers: NDArray[np.uint64]
    vectors: NDArray[Any]
    placed: Placed
    persistence: NDArray[np.float64]
    tree: NDArray[Any]
    about: dict[str, Any]

    def save(self, directory: Location) -> None:
        """Write it as tables, and then `fit.json`, which names their folder.

        The first fit stands: of two writers (a task that Ray ran twice, two drivers) the other's
        tables are never read.
        """
        folder, placed = f"tables-{uuid.uuid4().hex[:8]}", self.placed
        columns = {
            "number": pa.array(self.numbers),
            "vector": _lists(self.vectors),
            "plane": _lists(placed.plane),
            "space": _lists(placed.space),
            "label": pa.array(placed.label),
            "strength": pa.array(placed.strength),
            "outlier": pa.array(placed.outlier),
        }
        tree = {name: np.ascontiguousarray(self.tree[name]) for name in _TREE}
        (directory / folder / "points.parquet").write_table(pa.table(columns))
        (directory / folder / "tree.parquet").write_table(pa.table(tree))
        about = {**self.about, "persistence": self.persistence.tolist(), "folder": folder}
        (directory / "fit.json").write_bytes(json.dumps(about, indent=1).encode(), replace=False)

    @classmethod
    def read(cls, directory: Location) -> Fit | None:
        """What `save` wrote; None if it did not get to its end."""
        if (about := read_about(directory)) is None:
            return None
        folder = directory / about["folder"]
        points, rows = (folder / "points.parquet").read_table(), (folder / "tree.parquet").read_table()
        placed = Placed(
            _matrix(points["plane"]),
            _matrix(points["space"]),
            *(points[name].to_numpy() for name in ("label", "strength", "outlier")),
        )
        tree = _structured({name: rows[name].to_numpy() for name in _TREE})
        persistence = np.array(about.pop("persistence"), np.float64)
        del about["folder"]
        return cls(points["number"].to_numpy(), _matrix(points["vector"]), placed, persistence, tree, about)


def fit(
    numbers: NDArray[np.uint64], vectors: NDArray[Any], settings: Cluster, backend: Name, seed: int
) -> Fit:
    """Lay out and cluster a sample (METHODS B4).

    Args:
        numbers: (n,), the ids as numbers; rows are put in their order, so that the result does not
            depend on who read them first.
        vectors: (n, d), unit rows.
        settings: the recipe's section.
        backend: who computes.
        seed: of the mode `seeded`.

    Raises:
        RecipeError: there are too few rows for the settings.
    """
    check_rows(len(numbers), settings)
    if settings.dimensions > vectors.shape[1]:
        raise RecipeError(
            f"cluster.dimensions is {settings.dimensions}, and the vectors have {vectors.shape[1]} "
            "components: take no more"
        )
    order = np.argsort(numbers, kind="stable")
    numbers, vectors = numbers[order], vectors[order]
    made, started = load(backend), time.monotonic()
    # The libraries take seeds of 32 bits; a recipe's may be any integer.
    plane, space = made.layouts(vectors, settings, seed % 2**32 if settings.mode == "seeded" else None)
    laid = time.monotonic()
    if not (np.isfinite(plane).all() and np.isfinite(space).all()):
        raise RecipeError(
            f"cluster.encoder: the {len(numbers):,} images that are fitted have "
            f"{len(np.unique(vectors, axis=0)):,} different vectors, too few for a map; give the run images "
            "that differ"
        )
    found = made.clusters(space, settings)
    tree = Tree(found.tree, found.label)
    about = {
        "backend": backend,
        "mode": settings.mode,
        "rows": len(numbers),
        "clusters": len(found.persistence),
        "layout_seconds": round(laid - started, 2),
        "cluster_seconds": round(time.monotonic() - laid, 2),
        "versions": made.versions(),
    }
    placed = Placed(plane, space, found.label, found.strength, tree.outliers())
    return Fit(numbers, vectors, placed, found.persistence, found.tree, about)


class Placer:
    """Places images among those of a fit. Fitted images keep the places they have.

    A new image lies at the median, coordinate by coordinate, of its nearest fitted images, and
    belongs where HDBSCAN's approximate prediction puts that point. The median needs no random
    numbers, so an image's place depends on nothing else that is placed; docs/methods.md compares
    it with UMAP's own transform.
    """

    def __init__(self, made: Fit, settings: Cluster) -> None:
        device = device_of(settings.gpus, "cluster.gpus")
        self._fit, self._count, self._device = made, min(settings.neighbours, len(made.numbers)), device
        tree = Tree(made.tree, made.placed.label)
        threads = max(1, round(settings.cpus))
        self._predictor = Predictor(tree, made.placed.space, settings.min_samples, threads)

    def place(self, numbers: NDArray[np.uint64], vectors: NDArray[Any]) -> tuple[Placed, NDArray[np.bool_]]:
        """Where unit rows (m, d) of samples (m,) lie, and which of them were fitted."""
        at = rows_of(self._fit.numbers, numbers)
        fitted = at >= 0
        places = self._fit.placed.take(at)
        if not fitted.all():
            new = self._find(vectors[~fitted])
            places.plane[~fitted], places.space[~fitted] = new.plane, new.space
            places.label[~fitted], places.strength[~fitted] = new.label, new.strength
            places.outlier[~fitted] = new.outlier
        return places, fitted

    def _find(self, vectors: NDArray[Any]) -> Placed:
        """Where unit rows lie that were not fitted."""
        rows = nearest(vectors, self._fit.vectors, self._count, device=self._device).rows
        plane = np.median(self._fit.placed.plane[rows], axis=1).astype(np.float32)
        space = np.median(self._fit.placed.space[rows], axis=1).astype(np.float32)
        said = self._predictor.predict(space)
        return Placed(plane, space, said.label, said.strength, said.outlier)


def check_rows(rows: int, settings: Cluster) -> None:
    """Refuse a fit of fewer rows than its settings need.

    Raises:
        RecipeError: with the setting's name.
    """
    if rows < 3:
        raise RecipeError(
            f"cluster: {rows} images with a vector are there, and three are the least; `connote status` "
            "tells what the others lack, or give the run more images"
        )
    for name in ("neighbours", "min_cluster_size", "min_samples"):
        value = getattr(settings, name)
        if rows <= value:
            raise RecipeError(
                f"cluster.{name} is {value}, and only {rows:,} images with a vector are there to cluster; "
                f"set it below {max(rows, 1)}, or give the run more images"
            )


def _structured(columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    kinds = [(name, column.dtype) for name, column in columns.items()]
    rows = np.empty(len(next(iter(columns.values()))), kinds)
    for name, column in columns.items():
        rows[name] = column
    return rows


def _lists(rows: NDArray[Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def _matrix(column: pa.ChunkedArray) -> NDArray[Any]:
    lists = column.combine_chunks()
    return np.asarray(lists.flatten().to_numpy(zero_copy_only=False)).reshape(len(lists), -1)
