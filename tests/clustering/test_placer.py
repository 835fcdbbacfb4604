"""Where new images are put among those of a fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clustering import fitted
from engine.clustering.fitted import Placed, Placer, fit
from tests.clustering.blobs import COLUMNS, blobs, equal, ids, settings


@pytest.fixture(scope="module")
def placer(known: Any) -> Placer:
    return Placer(known[0], settings())


def _rows(placed: Placed, fitted: NDArray[np.bool_]) -> list[NDArray[Any]]:
    return [*(getattr(placed, name) for name in COLUMNS), fitted]


def test_fitted_images_keep_their_places(known: Any, placer: Placer) -> None:
    made, numbers, vectors, _ = known
    mixed = np.random.default_rng(2).permutation(len(numbers))[:250]
    placed, fitted = placer.place(numbers[mixed], vectors[mixed])
    assert fitted.dtype == np.bool_ and fitted.all()
    kept = made.placed.take(np.searchsorted(made.numbers, numbers[mixed]))
    for name in COLUMNS:
        equal(getattr(placed, name), getattr(kept, name), name)


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


def test_what_was_fitted_is_not_searched_again(
    known: Any, placer: Placer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of most runs that is everything."""
    asked = list[int]()
    search = fitted.nearest

    def nearest(rows: Any, *more: Any, **how: Any) -> Any:
        asked.append(len(rows))
        return search(rows, *more, **how)

    monkeypatch.setattr(fitted, "nearest", nearest)
    made = placer._fit
    there, was = placer.place(made.numbers[:50], made.vectors[:50])
    assert was.all() and not asked
    assert np.array_equal(there.label, made.placed.label[:50])
    _, was = placer.place(made.numbers[:50] + np.uint64(1), made.vectors[:50])
    assert asked == [int((~was).sum())]
