"""Fits on processors: what is found, that it is found again, and how it is kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import hdbscan
import numpy as np
import pytest
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score

from engine.clustering.fitted import Fit, Placer, check_rows, fit
from engine.errors import RecipeError
from engine.recipe.analysis import Cluster
from engine.storage import Location, locate
from tests.clustering.blobs import COLUMNS, blobs, ids, same, settings, sound, units


def test_blobs_are_found(known: Any) -> None:
    made, numbers, vectors, truth = known
    sound(made)
    order = np.argsort(numbers)
    np.testing.assert_array_equal(made.numbers, numbers[order])
    np.testing.assert_array_equal(made.vectors, vectors[order])
    assert adjusted_rand_score(truth[order], made.placed.label) > 0.95
    assert made.placed.space.shape == (600, 5)
    assert len(made.persistence) == made.about["clusters"] == 6
    assert made.about["rows"] == 600 and made.about["backend"] == "cpu" and made.about["mode"] == "seeded"
    assert set(made.about["versions"]) == {"umap-learn", "hdbscan", "evoc"}


def test_the_map_keeps_blobs_apart(known: Any) -> None:
    made, numbers, _, truth = known
    truth = truth[np.argsort(numbers)]
    plane = made.placed.plane.astype(np.float64)
    middles = np.stack([plane[truth == label].mean(axis=0) for label in range(6)])
    nearest_middle = ((plane[:, None] - middles) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest_middle == truth).mean() > 0.98


def test_the_same_again_in_another_order(known: Any) -> None:
    made, numbers, vectors, _ = known
    mixed = np.random.default_rng(9).permutation(len(numbers))
    numbers, vectors = numbers[mixed], vectors[mixed]
    before = numbers.copy(), vectors.copy()
    numbers.flags.writeable = vectors.flags.writeable = False  # as they come out of Ray's store
    same(made, fit(numbers, vectors, settings(), "cpu", 3))
    np.testing.assert_array_equal(numbers, before[0])
    np.testing.assert_array_equal(vectors, before[1])


def test_another_seed_is_another_map_of_the_same_clusters(known: Any) -> None:
    made, numbers, vectors, _ = known
    other = fit(numbers, vectors, settings(), "cpu", 4)
    assert not np.array_equal(made.placed.plane, other.placed.plane)
    assert adjusted_rand_score(made.placed.label, other.placed.label) > 0.95


def test_without_a_seed(known: Any) -> None:
    _, numbers, vectors, truth = known
    made = fit(numbers, vectors, settings(mode="scale"), "cpu", 3)
    sound(made)
    assert made.about["mode"] == "scale"
    assert adjusted_rand_score(truth[np.argsort(numbers)], made.placed.label) > 0.95


def test_small_fits_take_umaps_own_way() -> None:
    """Below 500 rows; the seed holds there, too."""
    vectors, truth = blobs(4, 60, 24)
    numbers = ids(len(vectors))
    made = fit(numbers, vectors, settings(), "cpu", 3)
    sound(made)
    assert adjusted_rand_score(truth[np.argsort(numbers)], made.placed.label) > 0.95
    same(made, fit(numbers[::-1], vectors[::-1], settings(), "cpu", 3))
    for seed in (-1, 2**40):  # as a recipe may have it, and the libraries may not
        sound(fit(numbers, vectors, settings(), "cpu", seed))


def test_settings_reach_the_libraries() -> None:
    vectors, _ = blobs(6, 50, 16, spread=1.0)
    numbers = ids(len(vectors))
    base = fit(numbers, vectors, settings(dimensions=3), "cpu", 0)
    assert base.placed.space.shape == (300, 3)
    leaf = fit(numbers, vectors, settings(dimensions=3, select="leaf", min_cluster_size=5), "cpu", 0)
    assert len(leaf.persistence) > len(base.persistence)
    np.testing.assert_array_equal(leaf.placed.space, base.placed.space)
    merged = fit(
        numbers, vectors, settings(dimensions=3, select="leaf", min_cluster_size=5, epsilon=3.0), "cpu", 0
    )
    assert len(merged.persistence) < len(leaf.persistence)
    far = fit(numbers, vectors, settings(dimensions=3, min_dist=0.9), "cpu", 0)
    np.testing.assert_array_equal(far.placed.space, base.placed.space)
    gap, wide = (
        np.median(cKDTree(each.placed.plane).query(each.placed.plane, 2)[0][:, 1]) for each in (base, far)
    )
    assert wide > 1.5 * gap
    # As hdbscan itself says of that space.
    itself = hdbscan.HDBSCAN(min_cluster_size=20, min_samples=10, core_dist_n_jobs=1)
    np.testing.assert_array_equal(itself.fit(base.placed.space.astype(np.float64)).labels_, base.placed.label)
    np.testing.assert_allclose(itself.outlier_scores_, base.placed.outlier, atol=1e-6)


def test_half_precision(known: Any) -> None:
    _, numbers, vectors, truth = known
    made = fit(numbers, vectors.astype(np.float16), settings(), "cpu", 3)
    sound(made)
    assert made.vectors.dtype == np.float16
    assert adjusted_rand_score(truth[np.argsort(numbers)], made.placed.label) > 0.95


# Few and equal rows.


@pytest.mark.parametrize(
    ("rows", "changed", "name"),
    [
        (0, {}, "cluster: 0 images with a vector are there, and three are the least"),
        (15, {}, "cluster.neighbours is 15, and only 15 images"),
        (20, {}, "cluster.min_cluster_size is 20, and only 20 images"),
        (30, {"min_samples": 40}, "cluster.min_samples is 40, and only 30 images"),
    ],
)
def test_too_few_rows(rows: int, changed: dict[str, Any], name: str) -> None:
    vectors = units(np.random.default_rng(0).normal(size=(30, 8)))[:rows]
    with pytest.raises(RecipeError) as refused:
        fit(ids(30)[:rows], vectors, settings(**changed), "cpu", 0)
    assert str(refused.value).startswith(name)
    assert "or give the run more images" in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "changed"),
    [
        (21, {}),
        (16, {"min_cluster_size": 15}),
        (3, {"neighbours": 2, "min_cluster_size": 2, "min_samples": 1, "dimensions": 2}),
        (4, {"neighbours": 2, "min_cluster_size": 2, "min_samples": 1, "dimensions": 2}),
        (6, {"neighbours": 2, "min_cluster_size": 2, "min_samples": 1}),
        (7, {"neighbours": 2, "min_cluster_size": 2, "min_samples": 1}),
        (52, {"dimensions": 50}),
    ],
)
def test_just_enough_rows(rows: int, changed: dict[str, Any]) -> None:
    vectors = units(np.random.default_rng(0).normal(size=(rows, 50)))
    numbers, asked = ids(rows), settings(**changed)
    made = fit(numbers, vectors, asked, "cpu", 0)
    sound(made)
    placed, fitted = Placer(made, asked).place(np.sort(numbers) ^ np.uint64(1), made.vectors)
    assert not fitted.any()
    assert all(np.isfinite(getattr(placed, name)).all() for name in COLUMNS)


@pytest.mark.parametrize(("rows", "equal"), [(120, 1.0), (600, 0.5), (600, 1.0)])
def test_equal_rows(rows: int, equal: float) -> None:
    """Duplicates of one picture, on either side of the number where the layout starts otherwise."""
    vectors = units(np.random.default_rng(0).normal(size=(rows, 16)))
    vectors[: int(rows * equal)] = vectors[0]
    numbers = np.sort(ids(rows))
    made = fit(numbers, vectors, settings(), "cpu", 0)
    sound(made)
    new, fitted = Placer(made, settings()).place(numbers[:5] ^ np.uint64(1), vectors[:5])
    assert not fitted.any() and np.isfinite(new.plane).all()
    assert ((new.strength >= 0) & (new.strength <= 1) & (new.outlier >= 0) & (new.outlier <= 1)).all()
    # Equal images lie at one place, wherever that is.
    assert len(np.unique(new.plane, axis=0)) == 1 and len(np.unique(new.label)) == 1


# Kept on disk.


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_saved_and_read(known: Any, tmp_path: Any, dtype: type) -> None:
    made = dataclasses.replace(known[0], vectors=known[0].vectors.astype(dtype))
    place = locate(tmp_path) / "fit"
    made.save(place)
    read = Fit.read(place)
    assert read is not None and read.about == made.about
    same(made, read)
    new = blobs(6, 5, 32, draw=1)[0]
    numbers = ids(30, 8)
    for one, other in zip(
        *(vars(Placer(each, settings()).place(numbers, new)[0]).values() for each in (made, read)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_fit_without_clusters_is_saved_too(tmp_path: Any) -> None:
    vectors = units(np.random.default_rng(0).normal(size=(30, 8)))
    made = fit(ids(30), vectors, settings(min_cluster_size=25), "cpu", 0)
    assert (made.placed.label == -1).all() and made.persistence.shape == (0,)
    place = locate(tmp_path)
    made.save(place)
    read = Fit.read(place)
    assert read is not None
    same(made, read)


def test_an_unfinished_save_is_none(known: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = locate(tmp_path) / "fit"
    assert Fit.read(place) is None
    # Stopped after each of its files but the last.
    whole = Location.write_bytes
    for stop in range(3):
        left = iter(range(stop))

        def write(self: Location, data: Any, replace: bool = True, left: Any = left) -> bool:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return whole(self, data, replace)

        before = len(place.entries(recursive=True))
        monkeypatch.setattr(Location, "write_bytes", write)
        with pytest.raises(KeyboardInterrupt):
            known[0].save(place)
        # Each attempt has a folder of its own.
        assert len(place.entries(recursive=True)) - before == (stop + 1 if stop else 0)
        assert Fit.read(place) is None
    monkeypatch.undo()
    known[0].save(place)
    assert Fit.read(place) is not None
    (place / "fit.json").delete()
    assert Fit.read(place) is None


def test_more_dimensions_than_the_vectors_have() -> None:
    rows = np.eye(4)[np.arange(40) % 4]
    settings = Cluster(encoder="open_clip:terrarium", dimensions=5, min_cluster_size=5, min_samples=2)
    with pytest.raises(RecipeError, match=r"cluster\.dimensions is 5, and the vectors have 4 components"):
        fit(np.arange(40, dtype=np.uint64), rows, settings, "cpu", 0)


@pytest.mark.parametrize("seed", range(4))
def test_three_different_vectors_are_laid_out_or_refused(seed: int) -> None:
    """Where a layout has no place for them, it is not a library that says so."""
    rows = np.eye(8)[np.random.default_rng(seed).integers(0, 3, 600)]
    settings = Cluster(encoder="open_clip:terrarium", min_cluster_size=5, min_samples=2)
    try:
        made = fit(np.arange(600, dtype=np.uint64), rows, settings, "cpu", seed)
    except RecipeError as error:
        assert "the 600 images that are fitted have 3 different vectors" in str(error)
    else:
        assert np.isfinite(made.placed.plane).all()


@pytest.mark.parametrize("rows", [0, 2])
def test_hardly_any_rows(rows: int) -> None:
    with pytest.raises(RecipeError, match=rf"cluster: {rows} images with a vector .* three are the least"):
        check_rows(rows, Cluster(encoder="open_clip:terrarium"))
