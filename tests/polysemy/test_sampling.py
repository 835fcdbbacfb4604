import numpy as np
import pytest

from engine.polysemy import sampling
from engine.polysemy.sampling import farthest_points


def test_known_answer() -> None:
    points = np.array([[0, 0], [10, 0], [4, 1], [0, 6], [9, 0]])
    # The centroid is (4.6, 1.4); the farthest of (4, 1) is (0, 6), then (10, 0), then (0, 0).
    sample = farthest_points(points, 5)
    assert sample.rows.tolist() == [2, 3, 1, 0, 4]
    expected = [np.inf, np.hypot(4, 5), np.hypot(6, 1), np.hypot(4, 1), 1]
    np.testing.assert_allclose(sample.distances, expected)


def test_greedy_max_min_against_brute_force() -> None:
    points = np.random.default_rng(0).normal(size=(200, 2))
    sample = farthest_points(points, 60)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    for place in range(1, 60):
        to_chosen = distances[:, sample.rows[:place]].min(axis=1)
        assert sample.rows[place] == to_chosen.argmax()
        assert sample.distances[place] == pytest.approx(to_chosen.max())
    assert (np.diff(sample.distances[1:]) <= 0).all(), "the sequence never increases"


def test_all_rows_are_a_permutation_also_with_duplicates() -> None:
    points = np.tile(np.random.default_rng(1).normal(size=(7, 2)), (3, 1))
    sample = farthest_points(points, 21)
    assert sorted(sample.rows) == list(range(21))
    assert sample.distances[7:].max() == 0, "duplicates come last"


def test_one_point() -> None:
    assert farthest_points(np.zeros((1, 2)), 1).rows.tolist() == [0]


@pytest.mark.parametrize("count", [0, 4])
def test_no_more_rows_than_there_are(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} rows cannot be chosen of 3"):
        farthest_points(np.zeros((3, 2)), count)


def test_a_row_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        farthest_points(np.array([[0, np.nan], [1, 1]]), 1)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(2).normal(size=(301, 3)).astype(np.float32)
    whole = farthest_points(points, 50)
    monkeypatch.setattr(sampling, "_BLOCK", 37)
    blocked = farthest_points(points, 50)
    assert (whole.rows == blocked.rows).all() and (whole.distances == blocked.distances).all()
