"""The seeded sample that every reader of a part finds alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clustering.drawing import bar, drawn, lots

Numbers = NDArray[np.uint64]


def _ids(count: int, seed: int = 0) -> Numbers:
    """Numbers as ids are: spread over all 64 bits."""
    return np.unique(np.random.default_rng(seed).integers(2**64, size=count, dtype=np.uint64))


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("start", [0, 2**32 - 500_000, 2**64 - 1_000_000])
def test_no_two_samples_share_a_lot(start: int, seed: int) -> None:
    numbers = np.arange(1_000_000, dtype=np.uint64) + np.uint64(start)
    lot = lots(numbers, seed)
    assert lot.dtype == np.uint64
    assert len(np.unique(lot)) == len(numbers)


def test_lots_of_numbers_in_a_row_look_random() -> None:
    lot = lots(np.arange(200_000, dtype=np.uint64), 0)
    counts = np.histogram(lot.astype(np.float64), bins=64, range=(0, 2.0**64))[0]
    # chi squared with 63 degrees of freedom: mean 63, standard deviation 11.2
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 63 + 5 * 11.2
    bits = (lot[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.01
    assert abs(np.corrcoef(lot[:-1].astype(np.float64), lot[1:].astype(np.float64))[0, 1]) < 0.01


def test_a_lot_is_the_samples_own() -> None:
    numbers = _ids(1000)
    kept = numbers.copy()
    together = lots(numbers, 3)
    alone = np.concatenate([lots(numbers[i : i + 1], 3) for i in range(len(numbers))])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(numbers, kept)
    assert lots(np.empty(0, np.uint64), 3).shape == (0,)


def test_the_sample_depends_on_neither_order_nor_parts() -> None:
    numbers = _ids(5000)
    whole = numbers[drawn(numbers, 7, 300)]
    shuffled = np.random.default_rng(1).permutation(numbers)
    np.testing.assert_array_equal(shuffled[drawn(shuffled, 7, 300)], whole)
    for cuts in ([1, 2, 4000], [2500], list(range(10, 5000, 10))):
        pieces = [piece[drawn(piece, 7, 300)] for piece in np.split(shuffled, cuts)]
        left = np.concatenate(pieces)
        np.testing.assert_array_equal(left[drawn(left, 7, 300)], whole)


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 999, 1000, 5000])
def test_a_smaller_sample_is_the_beginning_of_a_larger(count: int) -> None:
    numbers = _ids(1000)
    order = drawn(numbers, 5, len(numbers))
    assert sorted(order.tolist()) == list(range(len(numbers)))
    assert (np.diff(lots(numbers, 5)[order].astype(np.float64)) >= 0).all()
    rows = drawn(numbers, 5, count)
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(rows, order[:count])


def test_nothing_to_draw_from() -> None:
    assert drawn(np.empty(0, np.uint64), 0, 10).tolist() == []
    assert drawn(np.empty(0, np.uint64), 0, 0).tolist() == []


@pytest.mark.parametrize("seed", [-1, -5, 2**64 + 3])
def test_any_integer_is_a_seed(seed: int) -> None:
    numbers = _ids(1000)
    assert drawn(numbers, seed, 50).tolist() != drawn(numbers, 0, 50).tolist()


def test_another_seed_draws_others() -> None:
    numbers = _ids(10_000)
    first, second = (set(drawn(numbers, seed, 1000).tolist()) for seed in (0, 1))
    # Of two independent tenths a tenth is common: 100, standard deviation 9.
    assert 50 < len(first & second) < 150


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_the_bar_lets_about_its_share_pass(share: float) -> None:
    lot = lots(np.arange(400_000, dtype=np.uint64), 11)
    passed = float((lot <= bar(share)).mean())
    assert abs(passed - share) < 5 * np.sqrt(share * (1 - share) / len(lot))


def test_the_bars_ends() -> None:
    assert bar(0) == 0 and bar(-3) == 0
    lot = lots(np.arange(100_000, dtype=np.uint64), 0)
    assert not (lot <= bar(0)).any()
    assert (lot <= bar(1)).all() and bar(1.3) == bar(1)
    # Whoever asks for all gets all but one in 2 ** 52.
    assert int(bar(1)) >= 2**64 - 2**12
    heights = [int(bar(share)) for share in np.linspace(0, 1, 101)]
    assert heights == sorted(set(heights))


def test_a_bar_and_a_draw_agree() -> None:
    """What passes the bar is the beginning of the sample: a reader may drop what does not."""
    numbers = _ids(20_000)
    passed = numbers[lots(numbers, 2) <= bar(0.13)]
    np.testing.assert_array_equal(passed[drawn(passed, 2, 2000)], numbers[drawn(numbers, 2, 2000)])
