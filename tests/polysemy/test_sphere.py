import numpy as np
import pytest

from engine.polysemy import sphere
from engine.polysemy.sphere import (
    directions,
    exp_map,
    frechet_mean,
    frechet_variance,
    geodesic,
    log_map,
    mean_angle,
    mean_cosine,
)

RNG = np.random.default_rng(0)


def units(n: int, d: int) -> np.ndarray:
    return directions(RNG.normal(size=(n, d)))[0]


def test_known_angles() -> None:
    x = np.array([1.0, 0.0, 0.0])
    others = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [np.cos(1.266), np.sin(1.266), 0]])
    np.testing.assert_allclose(geodesic(x, others), [0, np.pi / 2, np.pi, 1.266], atol=1e-12)


def test_rounding_gives_no_angle_that_is_none() -> None:
    """float32 unit vectors have products above 1."""
    rows = units(1000, 512).astype(np.float32) * np.float32(1.0000001)
    assert np.isfinite(geodesic(rows, rows)).all()


def test_lengths_make_no_angle() -> None:
    """Of equal captions that half precision has left 0.8 % too short, or as they are stored in float16."""
    rows = np.repeat(units(1, 512), 5, axis=0)
    for same in (rows * 0.992, rows.astype(np.float16)):
        # float64 leaves sqrt(2 eps) of an angle.
        assert geodesic(same[0], same).max() < 1e-7 and mean_angle(same) < 1e-7
        assert frechet_variance(same) < 1e-14 and mean_cosine(same) == pytest.approx(1, abs=1e-12)
    left, right = units(2, 512)
    assert geodesic(left * 0.992, right * 1.008) == pytest.approx(geodesic(left, right), abs=1e-12)


def test_the_norm_of_the_log_map_is_the_distance_and_exp_leads_back() -> None:
    points = units(50, 16)
    base = points[0]
    tangents = log_map(base, points)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=1), geodesic(base, points), atol=1e-7)
    np.testing.assert_allclose(tangents @ base, 0, atol=1e-12)
    for tangent, point in zip(tangents, points, strict=True):
        np.testing.assert_allclose(exp_map(base, tangent), point, atol=1e-12)


def test_the_opposite_point_has_no_direction() -> None:
    base = np.array([0.0, 0.0, 1.0])
    assert not log_map(base, -base[None]).any()


@pytest.mark.parametrize("pairs", [1, 90, 2**20])
def test_pairs_of_different_rows_some_at_a_time(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(sphere, "_PAIRS", pairs)
    points = np.random.default_rng(4).normal(size=(31, 5))
    units, _ = directions(points)
    apart = ~np.eye(31, dtype=bool)
    assert mean_cosine(points) == pytest.approx((units @ units.T)[apart].mean(), abs=1e-12)
    assert mean_angle(points) == pytest.approx(
        np.arccos(np.clip(units @ units.T, -1, 1))[apart].mean(), abs=1e-9
    )
    assert np.isnan(mean_cosine(points[:1])) and np.isnan(mean_angle(points[:0]))


def test_the_mean_of_points_on_a_great_circle_lies_at_their_mean_angle() -> None:
    angles = np.array([0.1, 0.5, 1.3, -0.4])
    points = np.stack([np.cos(angles), np.sin(angles), np.zeros(4)], axis=1)
    mean = frechet_mean(points)
    assert np.arctan2(mean[1], mean[0]) == pytest.approx(angles.mean(), abs=1e-9)
    assert frechet_variance(points) == pytest.approx(angles.var(), abs=1e-9)


def test_the_mean_is_where_the_squared_distances_are_least() -> None:
    points = directions(np.ones(8) + RNG.normal(size=(30, 8)))[0]
    mean = frechet_mean(points)
    least = np.mean(geodesic(points, mean) ** 2)
    for _ in range(50):
        other = exp_map(mean, 1e-3 * log_map(mean, units(1, 8))[0])
        assert np.mean(geodesic(points, other) ** 2) >= least


def test_rows_without_direction_are_told_apart() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [1e200, 0.0], [1e-200, 0.0]])
    found, good = directions(rows)
    assert good.tolist() == [True, False, False, False, True, True]
    np.testing.assert_allclose(found[good], [[0.6, 0.8], [1, 0], [1, 0]])
    assert not found[~good].any()
    assert directions(np.empty((0, 4)))[0].shape == (0, 4)
