"""The polysemy of clusters, against loops over pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.polysemy.clusters import measure_cluster, polysemy_rank
from engine.polysemy.radius import Captions
from engine.polysemy.sphere import directions, frechet_mean

NAN = math.nan
Rows = NDArray[np.float64]


def units(count: int, width: int, seed: int) -> Rows:
    return directions(np.random.default_rng(seed).normal(size=(count, width)) + 0.3)[0]


def angle(one: Rows, other: Rows) -> float:
    return math.acos(max(-1.0, min(1.0, sum(float(a) * float(b) for a, b in zip(one, other, strict=True)))))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("images", "captions"), [(2, 1), (3, 2), (7, 11)])
def test_as_loops_say(images: int, captions: int, dtype: type) -> None:
    looks, seen, words = units(images, 5, 0), units(images, 4, 1), units(captions, 4, 2)
    looks, seen, words = (rows.astype(dtype) for rows in (looks, seen, words))
    offsets = np.sort(np.random.default_rng(3).integers(0, captions + 1, images - 1))
    around = Captions(words, np.concatenate([[0], offsets, [captions]]).astype(np.int64))
    found = measure_cluster(looks, seen, around)

    # What was stored in float16 is a direction, whose length is a little off.
    looks, seen, exact = (directions(rows)[0] for rows in (looks, seen, words))
    pairs = list(itertools.combinations(looks, 2))
    assert found.image_cosine == pytest.approx(sum(float(a @ b) for a, b in pairs) / len(pairs))
    far = [angle(image, word) for image in seen for word in exact]
    assert len(far) == images * captions, "every image with the captions of all"
    assert found.caption_distance == pytest.approx(sum(far) / len(far))
    apart = [angle(a, b) for a, b in itertools.combinations(exact, 2)]
    if apart:
        assert found.caption_spread == pytest.approx(sum(apart) / len(apart))
    else:
        assert math.isnan(found.caption_spread)
    middle = frechet_mean(exact)
    variance = sum(angle(middle, word) ** 2 for word in exact) / captions
    assert found.caption_variance == pytest.approx(variance, abs=1e-6)


def test_what_is_not_defined() -> None:
    nothing = Captions(np.empty((0, 4)), np.zeros(4, np.int64))
    found = measure_cluster(units(3, 5, 0), units(3, 4, 1), nothing)
    assert not math.isnan(found.image_cosine)
    assert all(map(math.isnan, (found.caption_distance, found.caption_spread, found.caption_variance)))
    alone = measure_cluster(units(1, 5, 0), units(1, 4, 1), Captions(units(1, 4, 2), np.array([0, 1])))
    assert math.isnan(alone.image_cosine) and math.isnan(alone.caption_spread)
    assert alone.caption_distance == pytest.approx(angle(units(1, 4, 1)[0], units(1, 4, 2)[0]))
    assert alone.caption_variance == pytest.approx(0, abs=1e-12)
    none = Captions(np.empty((0, 4)), np.zeros(1, np.int64))
    assert all(map(math.isnan, vars(measure_cluster(units(0, 5, 0), units(0, 4, 1), none)).values()))


def test_alike_images_with_far_captions_are_the_most_polysemous() -> None:
    rank = polysemy_rank(np.array([0.2, 0.9, 0.5]), np.array([0.1, 1.2, 0.7]))
    assert rank.tolist() == [0.0, 1.0, 0.5]
    # At odds with each other, the two ranks are averaged.
    assert polysemy_rank(np.array([0.1, 0.2]), np.array([2.0, 1.0])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("seed", range(4))
def test_ranks_depend_on_the_order_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cosine, distance = rng.integers(0, 8, (2, 20)) / 8
    cosine[rng.random(20) < 0.2] = np.nan
    rank = polysemy_rank(cosine, distance)
    assert np.array_equal(np.isnan(rank), np.isnan(cosine))
    known = rank[~np.isnan(rank)]
    assert known.min() >= 0 and known.max() <= 1
    np.testing.assert_allclose(polysemy_rank(np.exp(5 * cosine), distance**3 - 7), rank, equal_nan=True)
    mixed = rng.permutation(20)
    np.testing.assert_array_equal(polysemy_rank(cosine[mixed], distance[mixed]), rank[mixed])
    # More distance never lowers a cluster's own rank.
    raised = distance.copy()
    raised[3] += 0.5
    assert np.isnan(cosine[3]) or polysemy_rank(cosine, raised)[3] >= rank[3]


def test_ties_share_their_rank() -> None:
    same = np.full(4, 0.3)
    assert polysemy_rank(same, same).tolist() == [0.5] * 4
    rank = polysemy_rank(np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]))
    assert rank.tolist() == [0.25, 0.25, 1.0]
    distinct = np.random.default_rng(0).permutation(9).astype(np.float64)
    assert sorted(polysemy_rank(distinct, distinct).tolist()) == [n / 8 for n in range(9)]


def test_what_has_no_rank() -> None:
    rank = polysemy_rank(np.array([0.1, NAN, 0.3, 0.9]), np.array([1.0, 1.5, NAN, 2.0]))
    assert np.isnan(rank).tolist() == [False, True, True, False]
    # A cluster that is known on one side still counts there: 0.3 lies below 0.9.
    assert rank[0] == 0 and rank[3] == 1
    assert np.isnan(polysemy_rank(np.array([NAN]), np.array([NAN]))).all()
    assert polysemy_rank(np.array([]), np.array([])).shape == (0,)
    assert polysemy_rank(np.array([0.5]), np.array([1.0])).tolist() == [0.5], "one alone is in the middle"
