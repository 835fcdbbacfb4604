"""The images around each query of a measurement: the nearest in an encoder's space, or on the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from engine.clustering.tables import Clustering, numbers_in
from engine.embeddings import VectorTables, rows_of
from engine.flow.drawn import draw_vectors, lowest
from engine.flow.neighbours import NOBODY, nearest_images
from engine.flow.spread import call, each, results, slices, start
from engine.recipe import Polysemy

#: Of more images than these no map radius is filled: the nearest are taken.
MAP_NEIGHBOURS = 1000


@dataclass(frozen=True)
class Neighbourhood:
    """The queries and the images around each, the nearest first.

    Attributes:
        queries: (q,), uint64.
        near: (q, k), uint64; `NOBODY` where there are no more.
        cosines: (q, k), float64, to the query in the space in which images are compared.
        distances: (q, k), float64, on the map; None where the radius counts neighbours. Of one image
            more than are taken, where there is one: so it is known whether any were left out.
    """

    queries: NDArray[np.uint64]
    near: NDArray[np.uint64]
    cosines: NDArray[np.float64] | None
    distances: NDArray[np.float64] | None

    def wanted(self) -> NDArray[np.uint64]:
        """Whose vectors are needed, ascending."""
        return np.unique(np.concatenate([self.queries, self.near[self.near != NOBODY]]))

    def batches(self, rows: int) -> list[Neighbourhood]:
        """Those of some queries each, which want about so many images."""
        wanted = 1 + (self.near != NOBODY).sum(axis=1)
        _, starts = np.unique(np.cumsum(wanted) // rows, return_index=True)
        return [self.some(slice(*edges)) for edges in pairwise([*starts.tolist(), len(self.queries)])]

    def cut(self, radii: Sequence[float]) -> int:
        """How many queries have more images within the largest radius than were looked at."""
        if self.distances is None or self.distances.shape[1] <= MAP_NEIGHBOURS:
            return 0
        return int((self.distances[:, MAP_NEIGHBOURS] <= max(radii)).sum())

    def others(self) -> int | None:
        """How many images were found around a query at most; None on the map, where distance decides."""
        if self.distances is not None:
            return None
        return int((self.near != NOBODY).sum(axis=1).max(initial=0))

    def some(self, rows: slice) -> Neighbourhood:
        """That of some queries."""
        cosines = None if self.cosines is None else self.cosines[rows]
        distances = None if self.distances is None else self.distances[rows]
        return Neighbourhood(self.queries[rows], self.near[rows], cosines, distances)


def neighbours_of_queries(
    settings: Polysemy,
    looks: VectorTables,
    clustering: Clustering | None,
    parts: Sequence[str],
    rows: int,
    seed: int,
) -> tuple[Neighbourhood, int]:
    """Draw the queries by the seed and find the images around each.

    Args:
        settings: the recipe's section.
        looks: the vectors in which images are compared.
        clustering: with the map, for radii on it.
        parts: all parts of the run.
        rows: how many images these have.
        seed: of the run.

    Returns:
        The images around each query, and how many queries were drawn: some may have no place on the map.
    """
    pieces = draw_vectors(looks, parts, rows, seed, settings.queries)
    # Their vectors stay with the task that drew them: the driver sees numbers.
    chosen = [start(lowest, pieces, seed, settings.queries)]
    queries = call(_numbers_of, chosen)
    drawn_queries = len(queries)
    if settings.radius == "map":
        assert clustering is not None
        queries, near, distances = call(_near_on_map, clustering, parts, queries, cpus=settings.cpus)
        # Nobody asks for the vectors of images beyond the largest radius, nor beyond those that are taken.
        near = np.where(distances <= max(settings.radii), near, NOBODY)
        near[:, MAP_NEIGHBOURS:] = NOBODY
        return Neighbourhood(queries, near, None, distances), drawn_queries
    furthest = int(max(settings.radii))
    # One more than asked for: each query finds itself.
    found = nearest_images(
        start(_vectors_of, chosen), furthest + 1, looks, parts, settings.cpus, settings.gpus
    )
    near, cosines = without_itself(queries, found.rows.astype(np.uint64), found.scores)
    return Neighbourhood(queries, near, cosines, None), drawn_queries


def without_itself(
    queries: NDArray[np.uint64], near: NDArray[np.uint64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """The neighbours (q, k + 1) without the query; without the last where it is not among them."""
    own = near == queries[:, None]
    own[~own.any(axis=1), -1] = True
    keep, shape = ~own, (len(near), near.shape[1] - 1)
    return near[keep].reshape(shape), scores[keep].reshape(shape)


def _numbers_of(chosen: Sequence[Any]) -> NDArray[np.uint64]:
    numbers: NDArray[np.uint64] = ray.get(chosen[0])[0]
    return numbers


def _vectors_of(chosen: Sequence[Any]) -> NDArray[Any]:
    vectors: NDArray[Any] = ray.get(chosen[0])[1]
    return vectors


def _near_on_map(
    clustering: Clustering, parts: Sequence[str], queries: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.float64]]:
    """The queries that have a place on the map, the images nearest to each, and how far they are."""
    from scipy.spatial import cKDTree

    pieces = results(each(slices(parts), on_map, clustering))
    numbers = np.concatenate([numbers for numbers, _ in pieces])
    points = np.concatenate([points for _, points in pieces])
    order = np.argsort(numbers)  # so that ties do not go by how parts are cut
    numbers, points = numbers[order], points[order]
    at = rows_of(numbers, queries)
    at = at[at >= 0]
    if len(numbers) < 2:
        return queries[:0], np.empty((0, 0), np.uint64), np.empty((0, 0))
    count = min(MAP_NEIGHBOURS + 2, len(points))  # itself, and one more than are taken
    distance, index = cKDTree(points).query(points[at], k=range(1, count + 1))
    near, far = without_itself(numbers[at], np.asarray(numbers[index], np.uint64), distance)
    return numbers[at], near, far


def on_map(parts: Sequence[str], clustering: Clustering) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """The numbers (n,) and coordinates (n, 2) of those images of some parts that have a place."""
    tables = [clustering.read(part, ("id", "x", "y")).drop_null() for part in parts]
    points = [np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1) for table in tables]
    return np.concatenate([numbers_in(table) for table in tables]), np.concatenate(points)
