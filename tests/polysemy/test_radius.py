import numpy as np
import pytest

from engine.neighbours import nearest
from engine.polysemy.radius import RADII, Captions, bootstrap, radius_curve
from engine.polysemy.sphere import directions


def circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_a_curve_known_in_closed_form() -> None:
    """Images on a circle one step apart; each caption lies 0.5 beyond its image's angle."""
    step, count = 0.01, 300
    angles = step * np.arange(count)
    images = circle(angles)
    captions = Captions(circle(angles + 0.5), np.arange(count + 1))
    found = nearest(images[:1], images, 101)
    curve = radius_curve(np.array([0]), found.rows[:, 1:], found.scores[:, 1:], images[:1], captions)
    for column, radius in enumerate(RADII):
        near = step * np.arange(1, radius + 1)
        if radius:
            assert curve.image_cosine[0, column] == pytest.approx(np.cos(near).mean())
        else:
            assert np.isnan(curve.image_cosine[0, column])
        within = step * np.arange(radius + 1)
        assert curve.caption_distance[0, column] == pytest.approx(0.5 + within.mean())
        assert curve.caption_variance[0, column] == pytest.approx(within.var(), abs=1e-12)
        if radius:
            pairs = np.abs(within[:, None] - within[None])
            expected = pairs.sum() / (radius * (radius + 1))
            assert curve.caption_spread[0, column] == pytest.approx(expected, abs=1e-7)


def test_image_similarity_never_rises_with_the_radius() -> None:
    images = directions(np.random.default_rng(0).normal(size=(400, 16)))[0]
    captions = Captions(images, np.arange(401))
    queries = np.arange(50)
    found = nearest(images[:50], images, 101)
    curve = radius_curve(queries, found.rows[:, 1:], found.scores[:, 1:], images[:50], captions)
    assert (np.diff(curve.image_cosine[:, 1:], axis=1) <= 1e-12).all()


def test_images_without_captions_and_few_neighbours() -> None:
    captions = Captions(circle(np.array([0.1, 0.3])), np.array([0, 0, 2, 2]))
    neighbours = np.array([[1, -1], [2, 0]])
    cosines = np.array([[0.9, -np.inf], [0.8, 0.7]])
    curve = radius_curve(np.array([0, 1]), neighbours, cosines, circle(np.zeros(2)), captions, (0, 1, 2))
    np.testing.assert_allclose(curve.image_cosine, [[np.nan, 0.9, 0.9], [np.nan, 0.8, 0.75]])
    np.testing.assert_allclose(curve.caption_distance, [[np.nan, 0.2, 0.2], [0.2, 0.2, 0.2]])
    np.testing.assert_allclose(curve.caption_spread, [[np.nan, 0.2, 0.2], [0.2, 0.2, 0.2]])


def test_a_neighbour_whose_cosine_is_not_known_gives_its_captions() -> None:
    captions = Captions(circle(np.array([0.1, 0.3, 0.5])), np.arange(4))
    near, cosines = np.array([[1, 2]]), np.array([[np.nan, 0.7]])
    curve = radius_curve(np.array([0]), near, cosines, circle(np.zeros(1)), captions, (0, 1, 2))
    np.testing.assert_allclose(curve.image_cosine, [[np.nan, np.nan, 0.7]])
    np.testing.assert_allclose(curve.caption_distance, [[0.1, 0.2, 0.3]])


def test_a_radius_beyond_the_search_is_refused() -> None:
    captions = Captions(np.empty((0, 2)), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="as far as neighbours were searched"):
        radius_curve(
            np.array([0]), np.zeros((1, 3), np.int64), np.ones((1, 3)), np.ones((1, 2)), captions, (5,)
        )


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        _, low, high = bootstrap(rng.normal(size=(60, 1)), resamples=300, seed=seed)
        covered += bool(low[0] <= 0 <= high[0])
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_leaves_out_what_is_not_there() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    mean, low, high = bootstrap(values, resamples=50)
    assert mean[0] == 2 and 1 <= low[0] <= high[0] <= 3
    assert np.isnan([mean[1], low[1], high[1]]).all()
    assert np.isnan(bootstrap(np.empty((0, 2)))[0]).all()
