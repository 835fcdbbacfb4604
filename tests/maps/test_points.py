import numpy as np
import pytest

from engine.maps.points import Points, largest, name_of, one_line, summary


def points(x: list[float], label: list[int]) -> Points:
    n = len(x)
    return Points(np.array(x), np.zeros(n), np.array(label), np.ones(n, np.float32))


def test_arrays_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="strength"):
        Points(np.zeros(3), np.zeros(3), np.zeros(3, np.int64), np.zeros(2, np.float32))


def test_noise_is_drawn_first_and_what_is_not_finite_not_at_all() -> None:
    some = points([0.0, np.nan, 2.0, np.inf, 4.0], [1, 0, -1, -1, 0])
    assert some.order().tolist() == [2, 0, 4]
    assert some.take(some.order()).label.tolist() == [-1, 1, 0]


def test_names_stand_at_the_median_of_the_largest_clusters() -> None:
    names = largest(points([0, 1, 50, 7, 9, 3, 3], [2, 2, 2, 5, 5, -1, 8]), {2: "red boat", 5: "dog"}, 2)
    assert [(name.label, name.text, name.x) for name in names] == [(2, "red boat", 1.0), (5, "dog", 8.0)]
    assert len(largest(points(list(range(200)), list(range(200))), {})) == 30


def test_clusters_without_a_name() -> None:
    assert [name_of(label, {3: ""}) for label in (-1, 3)] == ["noise", "cluster 3"]


def test_summary() -> None:
    assert summary(points([1, 2, 3, 4], [0, 0, 7, -1])) == "4 samples, 2 clusters, 25% noise"
    assert summary(points([1], [0])) == "1 sample, 1 cluster, 0% noise"
    assert summary(points([], [])) == "no samples"


def test_weak_members_are_fainter() -> None:
    some = Points(np.zeros(3), np.zeros(3), np.zeros(3, np.int64), np.array([0, 1, np.nan], np.float32))
    weak, sure, unknown = some.certainty()
    assert 0 < weak < sure == 1
    assert unknown == weak


def test_one_line() -> None:
    assert one_line("a\n\tb\x00  c", 10) == "a b c"
    assert one_line("abcdefgh", 5) == "abcd…"
