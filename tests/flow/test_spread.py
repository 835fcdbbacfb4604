"""Work spread over a real Ray: workers that die, errors for the user, exact neighbours in any cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from engine.analyses import Sources
from engine.clustering.drawing import drawn
from engine.embeddings import VectorTables
from engine.errors import RecipeError, StorageError
from engine.flow.drawn import draw_vectors, lowest
from engine.flow.members import collect, gather
from engine.flow.neighbourhood import MAP_NEIGHBOURS, Neighbourhood, without_itself
from engine.flow.neighbours import NOBODY, nearest_images
from engine.flow.spread import call, each, results, slices, spread
from engine.neighbours import nearest
from engine.schema import captions_schema, images_schema
from engine.storage import StageTables, locate
from tests.flow.dying import Deadly, Squares

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    arguments = (tmp_path / "died", ray.put(3))
    found = sorted(spread(list(range(12)), Squares, arguments, actors=2, cpus=1))
    assert found == sorted(n * n + 3 for n in range(12))
    assert (tmp_path / "died").exists()


def test_what_a_worker_refuses_reaches_the_user(tmp_path: Path) -> None:
    (tmp_path / "died").write_text("")
    with pytest.raises(RecipeError, match=r"^squares.item: 13 is refused$"):
        list(spread(list(range(20)), Squares, (tmp_path / "died", 0), actors=2, cpus=1))


def test_an_item_that_kills_every_worker_stops_the_job(tmp_path: Path) -> None:
    (tmp_path / "died").write_text("")
    with pytest.raises(StorageError, match=r"^17: workers died of it 3 times"):
        list(spread([1, 17, 2], Squares, (tmp_path / "died", 0), actors=1, cpus=1))


def test_items_behind_one_that_kills_are_not_held_against(tmp_path: Path) -> None:
    """Two killers, one after the other, of two and of one death: what waits behind both is done."""
    items = [1, 100, 102, 2, 3, 7, 4, 5]
    found = list(spread(items, Deadly, (tmp_path, {100: 2, 102: 2, 7: 1}), actors=1, cpus=1))
    assert sorted(found) == sorted(items)


def test_tasks_give_references_in_order() -> None:
    found = results(each(range(40), _double, 1, cpus=0.5))
    assert found == [2 * n + 1 for n in range(40)]
    assert call(_double, 4, 1) == 9
    assert list(spread([], Squares, (), actors=2, cpus=1)) == []


def _double(item: int, more: int) -> int:
    return 2 * item + more


def test_slices_are_few_and_lose_nothing() -> None:
    for count, at_least in ((0, 3), (1, 3), (10, 3), (100_000, 16)):
        cut = slices(range(count), at_least)
        assert [item for some in cut for item in some] == list(range(count))
        assert len(cut) <= 512 and all(len(some) >= at_least for some in cut[:-1])


def _store(
    root: Path, ids: np.ndarray, vectors: np.ndarray, sizes: list[int]
) -> tuple[VectorTables, list[str]]:
    """Vectors in parts of these sizes; the vector of every 17th image is missing."""
    schema = images_schema(pa.float32(), vectors.shape[1], 1)
    tables = VectorTables("test", "images", vectors.shape[1], schema, StageTables(locate(root)), "f")
    parts, start = [], 0
    for number, size in enumerate(sizes):
        rows: list[dict[str, Any]] = []
        for at in range(start, start + size):
            bad = at % 17 == 5
            row = {"id": f"{ids[at]:016x}", "key": str(at), "error": "broken" if bad else None}
            rows.append({**row, "vector": None if bad else vectors[at]})
        parts.append(f"part-{number:06d}")
        tables.tables.commit(parts[-1], pa.Table.from_pylist(rows, schema=schema))
        start += size
    return tables, parts


def test_neighbours_are_those_of_one_search_however_the_data_are_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(600, 12)).astype(np.float32)
    vectors[300:330] = vectors[0]  # ties, in many parts
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # Half of them above 2^63, which no signed integer holds.
    ids = np.unique(rng.integers(2**64, size=600, dtype=np.uint64))
    rng.shuffle(ids)
    good = np.arange(600) % 17 != 5
    order = np.argsort(ids[good])
    gallery, numbers = vectors[good][order], ids[good][order]
    queries = vectors[:40]
    expected = nearest(queries, gallery, 25)
    for name, sizes in (("few", [600]), ("many", [7] * 85 + [5]), ("uneven", [1, 399, 200])):
        tables, parts = _store(tmp_path / name, ids, vectors, sizes)
        found = nearest_images(ray.put(queries), 25, tables, parts)
        assert (found.rows == numbers[expected.rows]).all()
        np.testing.assert_array_equal(found.scores, expected.scores)
    # Brute force in NumPy says the same.
    exact = np.float64(queries) @ np.float64(gallery).T
    np.testing.assert_allclose(found.scores, -np.sort(-exact, axis=1)[:, :25], atol=1e-12)


def test_the_sample_is_that_of_all_and_little_more_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(4000, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.unique(rng.integers(2**64, size=4100, dtype=np.uint64))[:4000]
    tables, parts = _store(tmp_path, ids, vectors, [50] * 80)
    good = np.arange(4000) % 17 != 5
    for count in (1, 300, 3999):
        pieces = draw_vectors(tables, parts, 4000, 7, count)
        held = sum(len(numbers) for numbers, _ in ray.get(pieces))
        assert min(count, good.sum()) <= held < 1.2 * count + 300
        numbers, rows = lowest(pieces, 7, count)
        chosen = drawn(ids[good], 7, count)
        np.testing.assert_array_equal(numbers, ids[good][chosen])
        np.testing.assert_array_equal(rows, vectors[good][chosen])


def test_more_neighbours_than_there_are_images(tmp_path: Path) -> None:
    vectors = np.eye(4, dtype=np.float32)
    tables, parts = _store(tmp_path, np.arange(4, dtype=np.uint64), vectors, [2, 2])
    found = nearest_images(ray.put(vectors[:1]), 6, tables, parts)
    assert found.rows[0, :4].tolist() == [0, 1, 2, 3]
    assert np.isneginf(found.scores[0, 4:]).all() and (found.rows[0, 4:] == 2**64 - 1).all()
    near, _ = without_itself(np.array([0], np.uint64), found.rows, found.scores)
    assert near.tolist() == [[1, 2, 3, 2**64 - 1, 2**64 - 1]]


def _captions(root: Path, ids: np.ndarray, vectors: np.ndarray, sizes: list[int]) -> VectorTables:
    """Captions in parts of these sizes: image i has i % 3 of them."""
    schema = captions_schema(pa.float32(), vectors.shape[1])
    tables = VectorTables("test", "original", vectors.shape[1], schema, StageTables(locate(root)), "f")
    start = 0
    for number, size in enumerate(sizes):
        rows = [
            {"id": f"{ids[at]:016x}", "key": str(at), "vectors": [vectors[at]] * (at % 3)}
            for at in range(start, start + size)
        ]
        tables.tables.commit(f"part-{number:06d}", pa.Table.from_pylist(rows, schema=schema))
        start += size
    return tables


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_batch_is_sent_its_own_members_alone(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(300, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids, sizes = rng.permutation(np.arange(300, dtype=np.uint64)) + np.uint64(2**63), [4] * 75
    looks, parts = _store(tmp_path / "looks", ids, vectors, sizes)
    images, _ = _store(tmp_path / "images", ids, vectors[:, ::-1].copy(), sizes)
    captions = _captions(tmp_path / "captions", ids, -vectors, sizes)
    # Two that share images, one of images that are nowhere, and one that wants nobody.
    wanted = [ids[10:150], ids[100:110], np.array([1, 2, NOBODY], np.uint64), ids[:0]][:count]
    batches, gaps = gather([np.sort(some) for some in wanted], Sources(looks, images, captions), parts)
    assert len(batches) == count
    broken = np.arange(300) % 17 == 5
    if count:
        assert (gaps.images, gaps.excluded) == ((~broken).sum(), {"test: broken": broken.sum()})
        assert gaps.captions == 0
    for some, pieces in zip(wanted, batches, strict=True):
        assert len(pieces) == 5, "a piece of each reader's, of 16 parts or fewer"
        sent = [ray.get(piece) for piece in pieces]
        assert all(np.isin(piece.numbers, some).all() for piece in sent)
        there = np.flatnonzero(np.isin(ids, some))
        there = there[np.argsort(ids[there])]
        held = [sum(len(getattr(piece, name)) for piece in sent) for name in ("numbers", "looks", "images")]
        assert held == [len(there)] * 3
        assert sum(len(piece.captions.vectors) for piece in sent) == (there % 3).sum()
        members = collect(pieces)
        np.testing.assert_array_equal(members.numbers, ids[there])
        looked = ~broken[there]
        assert members.looked.tolist() == members.seen.tolist() == looked.tolist()
        np.testing.assert_array_equal(members.looks, vectors[there] * looked[:, None])
        np.testing.assert_array_equal(members.images, vectors[there, ::-1] * looked[:, None])
        np.testing.assert_array_equal(np.diff(members.captions.offsets), there % 3)
        np.testing.assert_array_equal(members.captions.vectors, np.repeat(-vectors[there], there % 3, axis=0))


def _around(near: list[list[int]], distances: Any = None) -> Neighbourhood:
    rows = np.array(near, np.int64).astype(np.uint64)
    return Neighbourhood(np.arange(100, 100 + len(near), dtype=np.uint64), rows, None, distances)


def test_queries_are_cut_by_how_many_images_they_want() -> None:
    near = [[1, 2, 3], [1, -1, -1], [-1, -1, -1], [4, 5, 6], [7, 8, -1]]
    whole = _around(near)
    assert whole.wanted().tolist() == [1, 2, 3, 4, 5, 6, 7, 8, *range(100, 105)]
    for rows in (1, 2, 3, 5, 7, 100):
        some = whole.batches(rows)
        assert np.concatenate([each.queries for each in some]).tolist() == whole.queries.tolist()
        assert np.concatenate([each.near for each in some]).tolist() == whole.near.tolist()
        # A batch ends with the query that goes beyond the rows.
        assert all((each.near[:-1] != NOBODY).sum() + len(each.queries) - 1 <= rows for each in some)
    assert len(whole.batches(1)) == 5 and len(whole.batches(100)) == 1
    alone = _around([[], []])
    assert alone.wanted().tolist() == [100, 101] and len(alone.batches(1)) == 2


def test_queries_whose_radius_is_not_filled_are_counted() -> None:
    """The one image more than are taken tells."""
    near = np.zeros((3, MAP_NEIGHBOURS + 1), np.int64).tolist()
    distances = np.tile(np.linspace(0, 1, MAP_NEIGHBOURS + 1), (3, 1)) * np.array([[1.0], [2.0], [3.0]])
    assert _around(near, distances).cut([0, 2.5]) == 2
    assert _around(near, distances).cut([0, 0.9]) == 0
    assert _around([row[:-1] for row in near], distances[:, :-1]).cut([0, 9.0]) == 0, "there are no more"
    assert _around(near).cut([5]) == 0


def test_how_many_others_were_found_at_most() -> None:
    assert _around([[1, 2, -1], [1, -1, -1]]).others() == 2
    assert _around([[-1], [-1]]).others() == 0
    assert _around([[1, 2]], np.ones((1, 2))).others() is None, "distance decides"
