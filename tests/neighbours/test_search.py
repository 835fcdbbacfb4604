import numpy as np
import pytest
import torch

from engine.neighbours import Nearest, candidates, merge, nearest, precision, search
from engine.polysemy.sphere import directions


def units(n: int, d: int, seed: int = 0) -> np.ndarray:
    return directions(np.random.default_rng(seed).normal(size=(n, d)))[0].astype(np.float32)


def brute_force(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """Row numbers by (cosine in float64 from large to small, row number)."""
    products = (queries.astype(np.float64)[:, None] * gallery.astype(np.float64)[None]).sum(axis=2)
    rows = np.broadcast_to(np.arange(len(gallery)), products.shape)
    return np.lexsort((rows, -products), axis=1)[:, :k]


@pytest.fixture(params=[(3, 7), (16, 64), (64, 100), (1024, 8192)])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "QUERY_ROWS", request.param[0])
    monkeypatch.setattr(search, "GALLERY_ROWS", request.param[1])


@pytest.fixture(params=[(torch.float32, 4096), (torch.bfloat16, 4096), (torch.bfloat16, 1)], autouse=True)
def _coarse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each precision of the first look, and with candidates sifted at every block."""
    dtype, most = request.param
    monkeypatch.setattr(candidates, "coarse_dtype", lambda device: dtype)
    monkeypatch.setattr(candidates, "_MOST", most)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize(("n", "m", "d", "k"), [(1, 1, 4, 1), (20, 300, 16, 10), (5, 257, 64, 257)])
def test_equal_to_brute_force(n: int, m: int, d: int, k: int) -> None:
    queries, gallery = units(n, d, 1), units(m, d, 2)
    found = nearest(queries, gallery, k)
    assert (found.rows == brute_force(queries, gallery, k)).all()
    assert (np.diff(found.scores, axis=1) <= 0).all()


@pytest.mark.usefixtures("_blocks")
def test_ties_go_to_the_lower_row() -> None:
    gallery = np.tile(units(5, 8), (40, 1))
    found = nearest(gallery[:5], gallery, 50)
    assert (found.rows == brute_force(gallery[:5], gallery, 50)).all()
    assert (found.rows[:, :40] == np.arange(5)[:, None] + 5 * np.arange(40)).all()


@pytest.mark.usefixtures("_blocks")
def test_rows_that_low_precision_cannot_tell_apart() -> None:
    """A gallery in a cone so narrow that bfloat16 sees one score only; and one whose scores rise."""
    rng = np.random.default_rng(3)
    axis = units(1, 24)
    gallery = directions(axis + rng.normal(size=(700, 24)) * 1e-3)[0].astype(np.float32)
    queries = directions(axis + rng.normal(size=(8, 24)) * 1e-3)[0].astype(np.float32)
    assert (nearest(queries, gallery, 20).rows == brute_force(queries, gallery, 20)).all()
    rising = gallery[np.argsort(gallery @ queries[0])]
    assert (nearest(queries, rising, 20).rows == brute_force(queries, rising, 20)).all()


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("k", [1, 2, 30])
def test_cosines_of_one_sign(side: int, k: int) -> None:
    """Columns are looked at in groups while all bars are positive; here they are, or none is."""
    rng = np.random.default_rng(6)
    axis = units(1, 24)
    queries = directions(axis + rng.normal(size=(20, 24)) * 0.1)[0].astype(np.float32)
    gallery = directions(side * axis + rng.normal(size=(1280, 24)) * 0.1)[0].astype(np.float32)
    assert (nearest(queries, gallery, k).rows == brute_force(queries, gallery, k)).all()


def test_a_gallery_that_lies_in_memory_otherwise() -> None:
    """Its rows are taken one by one for their exact scores, whatever its strides."""
    queries, gallery = units(6, 32, 1), units(500, 32, 2)
    plain = nearest(queries, gallery, 9)
    wide = np.repeat(gallery, 2, axis=1)
    for other in (np.asfortranarray(gallery), wide[:, ::2], gallery[::-1].copy()[::-1]):
        found = nearest(queries, other, 9)
        assert (found.rows == plain.rows).all() and (found.scores == plain.scores).all()


def test_the_error_bound_holds() -> None:
    left, right = torch.as_tensor(units(200, 384, 4)), torch.as_tensor(units(300, 384, 5))
    right[:200] = left + 1e-3 * right[:200]
    exact = left.double() @ right.double().T
    for dtype in (torch.float32, torch.bfloat16):
        low = left.to(dtype)
        error = ((low @ right.to(dtype).T).double() - exact).abs()
        rounding = exact.abs() * torch.finfo(dtype).eps / 2
        assert (error <= 1.01 * (precision.error_of(left, low)[:, None] + rounding)).all()


def test_slices_merge_to_the_whole_in_any_order() -> None:
    queries, gallery = units(9, 12, 1), np.concatenate([units(100, 12, 2), units(100, 12, 2)])
    whole = nearest(queries, gallery, 7)
    bounds = [(150, 200), (0, 3), (3, 90), (90, 150)]
    parts = [nearest(queries, gallery[a:b], 7, first=a) for a, b in bounds]
    merged = merge(parts, 7)
    assert (merged.rows == whole.rows).all() and (merged.scores == whole.scores).all()


def test_a_gallery_smaller_than_k_leaves_places_empty() -> None:
    found = nearest(units(2, 4), units(3, 4, 1), 5)
    assert (found.rows[:, 3:] == -1).all() and np.isneginf(found.scores[:, 3:]).all()
    merged = merge([found, nearest(units(2, 4), units(4, 4, 5), 5, first=3)], 5)
    assert (merged.rows >= 0).all()
    assert nearest(units(2, 4), np.empty((0, 4), np.float32), 5).rows.tolist() == [[-1] * 5] * 2
    assert nearest(np.empty((0, 4), np.float32), units(3, 4), 5).rows.shape == (0, 5)


def test_half_precision_is_searched_as_it_is_stored() -> None:
    queries, gallery = units(6, 32, 1).astype(np.float16), units(500, 32, 2).astype(np.float16)
    assert (nearest(queries, gallery, 9).rows == brute_force(queries, gallery, 9)).all()


def test_many_candidates_of_one_query_are_scored_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gallery of copies is no matrix in float64."""
    gallery = np.concatenate([units(50, 16, 2), np.repeat(units(1, 16), 300, axis=0)])
    whole = nearest(gallery[:60], gallery, 70)
    monkeypatch.setattr(candidates, "_SCORED", 7)
    some = nearest(gallery[:60], gallery, 70)
    assert (whole.rows == some.rows).all() and (whole.scores == some.scores).all()
    assert (whole.rows == brute_force(gallery[:60], gallery, 70)).all()


def test_copies_of_one_query_among_rows_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has far more candidates than the others, and all have room for as many."""
    rows = units(2000, 16, 2)
    gallery = np.concatenate([rows[:1000], np.repeat(rows[:1], 3000, axis=0), rows[1000:]])
    gallery = gallery[np.random.default_rng(3).permutation(len(gallery))].copy()
    monkeypatch.setattr(search, "GALLERY_ROWS", 1000)
    for k in (1, 7, 60):
        assert (nearest(rows[:40], gallery, k).rows == brute_force(rows[:40], gallery, k)).all()


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        nearest(units(1, 4), units(1, 4), 0)
    with pytest.raises(ValueError, match="other encoders"):
        nearest(units(1, 4), units(1, 5), 1)
    assert isinstance(nearest(units(1, 4), units(1, 4), 1), Nearest)
