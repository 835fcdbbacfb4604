"""Fits on processors: what is found, that it is found again, and where new images are put."""

from __future__ import annotations

import dataclasses
from typing import Any

import hdbscan
import numpy as np
import pytest
import umap
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score

from engine.clustering import cpu_backend
from engine.clustering.fitted import Fit, Placed, Placer, fit
from engine.errors import RecipeError
from engine.neighbours import nearest
from engine.recipe.analysis import Cluster
from engine.storage import Location, locate

Vectors = NDArray[np.float32]
_COLUMNS = ("plane", "space", "label", "strength", "outlier")


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
        _equal(getattr(one, name), getattr(other, name), name)
    for name in _COLUMNS:
        _equal(getattr(one.placed, name), getattr(other.placed, name), name)
    for name in ("parent", "child", "lambda_val", "child_size"):
        _equal(one.tree[name], other.tree[name], name)


def _equal(one: NDArray[Any], other: NDArray[Any], name: str) -> None:
    assert one.dtype == other.dtype and one.shape == other.shape, name
    assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes(), name


def sound(made: Fit) -> None:
    """What must hold of every fit."""
    rows, placed = len(made.numbers), made.placed
    assert (np.diff(made.numbers.astype(object)) > 0).all()
    assert placed.plane.shape == (rows, 2) and placed.plane.dtype == np.float32
    assert placed.label.shape == (rows,) and placed.label.dtype == np.int32
    assert set(placed.label.tolist()) - {-1} == set(range(len(made.persistence)))
    for name in _COLUMNS:
        assert np.isfinite(getattr(placed, name)).all(), name
    for name in ("strength", "outlier"):
        values = getattr(placed, name)
        assert values.dtype == np.float32 and values.min() >= 0 and values.max() <= 1, name
    assert (placed.strength[placed.label < 0] == 0).all()


@pytest.fixture(scope="module")
def known() -> tuple[Fit, NDArray[np.uint64], Vectors, NDArray[np.int64]]:
    """Six blobs of a hundred each, and the fit of them."""
    vectors, truth = blobs(6, 100, 32)
    numbers = ids(len(vectors))
    return fit(numbers, vectors, settings(), "cpu", 3), numbers, vectors, truth


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


# The descent above EXACT_ROWS, against the libraries' own way.


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


# Few and equal rows.


@pytest.mark.parametrize(
    ("rows", "changed", "name"),
    [
        (0, {}, "cluster.neighbours is 15, and only 0 images"),
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
    vectors = units(np.random.default_rng(0).normal(size=(rows, 8)))
    numbers, asked = ids(rows), settings(**changed)
    made = fit(numbers, vectors, asked, "cpu", 0)
    sound(made)
    placed, fitted = Placer(made, asked).place(np.sort(numbers) ^ np.uint64(1), made.vectors)
    assert not fitted.any()
    assert all(np.isfinite(getattr(placed, name)).all() for name in _COLUMNS)


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


# New images.


@pytest.fixture(scope="module")
def placer(known: Any) -> Placer:
    return Placer(known[0], settings())


def _rows(placed: Placed, fitted: NDArray[np.bool_]) -> list[NDArray[Any]]:
    return [*(getattr(placed, name) for name in _COLUMNS), fitted]


def test_fitted_images_keep_their_places(known: Any, placer: Placer) -> None:
    made, numbers, vectors, _ = known
    mixed = np.random.default_rng(2).permutation(len(numbers))[:250]
    placed, fitted = placer.place(numbers[mixed], vectors[mixed])
    assert fitted.dtype == np.bool_ and fitted.all()
    kept = made.placed.take(np.searchsorted(made.numbers, numbers[mixed]))
    for name in _COLUMNS:
        _equal(getattr(placed, name), getattr(kept, name), name)


def test_new_images_join_their_blob(known: Any, placer: Placer) -> None:
    made, numbers, _, truth = known
    label_of = {
        blob: int(np.median(made.placed.label[truth[np.argsort(numbers)] == blob])) for blob in range(6)
    }
    assert sorted(label_of.values()) == list(range(6))
    new, blob = blobs(6, 40, 32, draw=5)
    placed, fitted = placer.place(ids(240, 50), new)
    assert not fitted.any()
    right = placed.label == np.array([label_of[each] for each in blob.tolist()])
    assert right.mean() > 0.95
    assert placed.strength[right].min() > 0 and np.median(placed.strength[right]) > 0.5
    assert (placed.outlier >= 0).all() and np.median(placed.outlier) < 0.5


def test_a_copy_lies_where_its_original_does_nearly(known: Any, placer: Placer) -> None:
    made = known[0]
    placed, fitted = placer.place(made.numbers ^ np.uint64(1), made.vectors)
    assert not fitted.any()
    assert (placed.label == made.placed.label).mean() > 0.95
    size = np.ptp(made.placed.plane, axis=0).max()
    assert np.median(np.linalg.norm(placed.plane - made.placed.plane, axis=1)) < 0.05 * size


def test_each_image_is_placed_as_if_alone(known: Any, placer: Placer) -> None:
    _, numbers, vectors, _ = known
    new, _ = blobs(6, 10, 32, spread=1.5, draw=6)
    numbers, rows = np.concatenate([ids(60, 51), numbers[:20]]), np.concatenate([new, vectors[:20]])
    together = _rows(*placer.place(numbers, rows))
    alone = [_rows(*placer.place(numbers[i : i + 1], rows[i : i + 1])) for i in range(len(rows))]
    for column, pieces in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(column, np.concatenate(pieces))
    mixed = np.random.default_rng(0).permutation(len(rows))
    for column, other in zip(together, _rows(*placer.place(numbers[mixed], rows[mixed])), strict=True):
        np.testing.assert_array_equal(column[mixed], other)


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_are_placed(placer: Placer, rows: int) -> None:
    placed, fitted = placer.place(ids(1, 52)[:rows], blobs(6, 1, 32)[0][:rows])
    shapes = [(rows, 2), (rows, 5), (rows,), (rows,), (rows,), (rows,)]
    assert [column.shape for column in _rows(placed, fitted)] == shapes
    kinds = [np.float32, np.float32, np.int32, np.float32, np.float32, np.bool_]
    assert [column.dtype for column in _rows(placed, fitted)] == kinds


def test_numbers_at_the_ends_are_not_taken_for_others(known: Any, placer: Placer) -> None:
    made, _, vectors, _ = known
    ends = np.array([0, made.numbers[0] - 1, made.numbers[-1] + 1, 2**64 - 1], np.uint64)
    assert not set(ends.tolist()) & set(made.numbers.tolist())
    assert not placer.place(ends, vectors[:4])[1].any()


def test_half_precision_is_placed(known: Any) -> None:
    half = dataclasses.replace(known[0], vectors=known[0].vectors.astype(np.float16))
    new, _ = blobs(6, 20, 32, draw=7)
    numbers = ids(120, 53)
    one, _ = Placer(half, settings()).place(numbers, new.astype(np.float16))
    other, _ = Placer(known[0], settings()).place(numbers, new)
    assert (one.label == other.label).mean() > 0.95
    assert one.plane.dtype == np.float32


def test_of_one_image_in_two_copies_neither_is_the_others() -> None:
    """Two samples with one picture: an id decides which was fitted, not the vector."""
    vectors, _ = blobs(3, 40, 8)
    numbers = np.sort(ids(120))
    made = fit(numbers, vectors, settings(), "cpu", 0)
    twins = np.stack([numbers[7], numbers[7] ^ np.uint64(1)])
    _, fitted = Placer(made, settings()).place(twins, vectors[[7, 7]])
    assert fitted.tolist() == [True, False]
