"""Radius curves by distance, and the tables that keep them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.polysemy.radius import Captions, Curve, bootstrap, radius_curve
from engine.polysemy.sphere import directions, frechet_variance
from engine.polysemy.tables import CLUSTER_POLYSEMY, CURVE, Measurement, curve_rows, joined
from engine.rundir import RunDirectory
from engine.storage import locate

MEASURES = ("image_cosine", "caption_distance", "caption_spread", "caption_variance")


def units(count: int, width: int, seed: int) -> np.ndarray:
    return directions(np.random.default_rng(seed).normal(size=(count, width)) + 0.3)[0]


def angles(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.arccos(np.clip(left @ right.T, -1, 1))


def test_radii_on_a_map_against_brute_force() -> None:
    """Every image on a map; the neighbours are given as a search gives them, with gaps."""
    rng = np.random.default_rng(0)
    count, reach = 40, 25
    points, looks, seen = rng.uniform(size=(count, 2)), units(count, 6, 1), units(count, 4, 2)
    each = rng.integers(0, 4, count)
    captions = Captions(units(each.sum(), 4, 3), np.concatenate([[0], np.cumsum(each)]).astype(np.int64))
    owner = np.repeat(np.arange(count), each)
    far = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(far, -1)
    queries = np.array([3, 17, 39, 0])
    near = np.argsort(far[queries], axis=1)[:, 1 : reach + 1]
    distances = np.take_along_axis(far[queries], near, 1)
    cosines = np.einsum("qd,qkd->qk", looks[queries], looks[near])
    # Fewer than asked for (as a k-d tree says it), and one that has no vector in the other space.
    near[1, 20:], distances[1, 20:], cosines[1, 20:] = -1, np.inf, np.nan
    near[2, 4] = -1
    cosines[2, 4] = np.nan
    gone = set(np.argsort(far[39])[5:6].tolist())
    radii = (0.0, 0.05, 0.2, 0.4)
    found = radius_curve(queries, near, cosines, seen[queries], captions, radii, distances)
    assert found.radii.tolist() == list(radii)
    searched = distances[np.isfinite(distances)].reshape(-1)
    assert searched.max() > 0.4
    for row, query in enumerate(queries):
        for column, radius in enumerate(radii):
            inside = np.flatnonzero((far[query] <= radius) & (np.arange(count) != query))
            if query == 17:
                inside = np.intersect1d(inside, near[1, :20])
            if query == 39:
                inside = np.setdiff1d(inside, list(gone))
            words = captions.vectors[np.isin(owner, [query, *inside])]
            expected = [np.nan] * 4
            if len(inside):
                expected[0] = float((looks[inside] @ looks[query]).mean())
            if len(words):
                expected[1] = float(angles(seen[query : query + 1], words).mean())
                expected[3] = frechet_variance(words)
            if len(words) > 1:
                expected[2] = float(angles(words, words)[np.triu_indices(len(words), 1)].mean())
            told = [getattr(found, name)[row, column] for name in MEASURES]
            np.testing.assert_allclose(told, expected, atol=1e-7)


def test_a_neighbour_just_at_the_radius_is_inside() -> None:
    captions = Captions(np.empty((0, 2)), np.zeros(4, np.int64))
    near, distances = np.array([[1, 2]]), np.array([[0.5, 0.75]])
    image = np.array([[1.0, 0.0]])
    curve = radius_curve(
        np.array([0]), near, np.array([[0.9, 0.1]]), image, captions, (0.4, 0.5, 0.75), distances
    )
    np.testing.assert_allclose(curve.image_cosine, [[np.nan, 0.9, 0.5]])


def test_a_copy_on_the_same_spot_is_within_radius_zero() -> None:
    """On a map the query is not alone at 0 where others lie on it; of numbers of neighbours it is."""
    captions = Captions(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 2]))
    at, near, cosine, image = np.array([0]), np.array([[1]]), np.array([[0.7]]), np.array([[1.0, 0.0]])
    on_map = radius_curve(at, near, cosine, image, captions, (0,), np.zeros((1, 1)))
    assert on_map.image_cosine.item() == 0.7
    assert on_map.caption_distance.item() == pytest.approx(np.pi / 4)
    counted = radius_curve(at, near, cosine, image, captions, (0,))
    assert np.isnan(counted.image_cosine.item()) and counted.caption_distance.item() == 0


def test_nobody_near_at_any_distance() -> None:
    captions = Captions(np.array([[0.0, 1.0]]), np.array([0, 1]))
    none, inf, image = np.full((1, 3), -1), np.full((1, 3), np.inf), np.array([[1.0, 0.0]])
    found = radius_curve(np.array([0]), none, inf, image, captions, (0, 1e9), inf)
    assert np.isnan(found.image_cosine).all() and np.isnan(found.caption_spread).all()
    np.testing.assert_allclose(found.caption_distance, np.pi / 2)


def test_large_distances_are_allowed_and_negative_ones_are_not() -> None:
    captions = Captions(np.empty((0, 2)), np.zeros(3, np.int64))
    given = (np.array([0]), np.array([[1]]), np.ones((1, 1)), np.ones((1, 2)), captions)
    assert radius_curve(*given, (500.0,), np.array([[3.0]])).image_cosine.item() == 1
    with pytest.raises(ValueError, match="radii"):
        radius_curve(*given, (-1.0,), np.array([[3.0]]))
    with pytest.raises(ValueError, match="radii"):
        radius_curve(*given, (-1,))


def curve(queries: int, seed: int = 0, radii: tuple[float, ...] = (0, 5, 10)) -> Curve:
    values = np.random.default_rng(seed).random((4, queries, len(radii)))
    return Curve(np.array(radii, np.float64), *values)


def test_the_rows_of_curves() -> None:
    first, second = curve(30), curve(30, 1)
    first.image_cosine[:, 0] = np.nan  # as at radius 0
    second.caption_spread[:20, 1] = np.nan
    table = curve_rows([("original", first), ("mined", second)], seed=4)
    assert table.schema.equals(CURVE)
    rows = table.to_pylist()
    assert [(row["captions"], row["radius"]) for row in rows] == [
        (captions, radius) for captions in ("original", "mined") for radius in (0.0, 5.0, 10.0)
    ]
    assert rows[0]["image_cosine"] is rows[0]["image_cosine_low"] is rows[0]["image_cosine_high"] is None
    for n, row in enumerate(rows):
        made = first if n < 3 else second
        for name in MEASURES:
            values = getattr(made, name)[:, n % 3]
            if np.isnan(values).all():
                continue
            assert row[name] == pytest.approx(np.nanmean(values))
            low, high = (bootstrap(getattr(made, name), seed=4)[i][n % 3] for i in (1, 2))
            assert (row[f"{name}_low"], row[f"{name}_high"]) == (low, high)
            assert low < row[name] < high
    nulls = sum(value is None for row in rows for value in row.values())
    assert nulls == 3
    assert curve_rows([("original", first), ("mined", second)], seed=4).equals(table)
    assert not curve_rows([("original", first), ("mined", second)], seed=5).equals(table)


def test_no_curves_and_no_queries() -> None:
    assert curve_rows([], 0).schema.equals(CURVE) and len(curve_rows([], 0)) == 0
    rows = curve_rows([("original", curve(0))], 0).to_pylist()
    assert len(rows) == 3
    assert all(
        row[f"{name}{end}"] is None for row in rows for name in MEASURES for end in ("", "_low", "_high")
    )


@pytest.mark.parametrize("seed", [-1, 2**64 + 1])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert not curve_rows([("original", curve(30))], seed).equals(curve_rows([("original", curve(30))], 0))


def test_curves_of_some_queries_each_as_one() -> None:
    pieces = [curve(count, seed) for seed, count in enumerate((3, 0, 1, 5))]
    whole = joined(pieces)
    assert whole.radii.tolist() == [0, 5, 10]
    for name in MEASURES:
        expected = [row for piece in pieces for row in getattr(piece, name).tolist()]
        assert getattr(whole, name).tolist() == expected
    alone = joined(pieces[:1])
    np.testing.assert_array_equal(alone.caption_variance, pieces[0].caption_variance)
    assert len({id(getattr(whole, name)) for name in MEASURES}) == 4
    assert not np.array_equal(whole.caption_distance, whole.caption_spread)


def test_a_measurement_is_done_when_its_last_file_is_there(tmp_path: Path) -> None:
    run = RunDirectory(locate(tmp_path))
    place = Measurement.of(run, {"seed": 0})
    assert place.directory.uri == f"{tmp_path}/polysemy/{place.fingerprint}" and not place.done
    place.curve.write_table(curve_rows([("original", curve(4))], 0))
    place.clusters.write_table(CLUSTER_POLYSEMY.empty_table())
    assert not place.done
    place.finish({"queries": 4})
    assert place.done and Measurement.of(run, {"seed": 0}).done
    assert json.loads((place.directory / "result.json").read_text()) == {"queries": 4}
    assert not Measurement.of(run, {"seed": 1}).done
