"""Histograms that add up, and the threshold of each rule against all similarities sorted."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_curve, roc_curve

from engine.difficulty.histogram import BINS, Histogram
from engine.difficulty.threshold import Rule, choose_threshold


def batches(count: int, size: int, seed: int = 0) -> list[torch.Tensor]:
    """Similarities of batches, on the middles of bins; those of matching pairs are larger."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        scores = rng.normal(0.1, 0.08, (size, size)) + np.diag(rng.normal(0.18, 0.08, size))
        middles = np.floor((np.clip(scores, -0.99, 0.99) + 1) * BINS / 2) + 0.5
        found.append(torch.tensor(middles / BINS * 2 - 1, dtype=torch.float64))
    return found


def test_batches_in_any_order_and_grouping_give_the_same() -> None:
    some = [Histogram.of_batch(batch) for batch in batches(5, 16)]
    one = reduce(add, some, Histogram.empty())
    other = (some[4] + some[1]) + (some[0] + (some[3] + some[2]))
    for name in ("matching", "others"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.matching.sum() == 5 * 16 and one.others.sum() == 5 * 16 * 15


@pytest.mark.parametrize("size", [2, 16, 64])
def test_counts_are_those_of_every_similarity(size: int) -> None:
    some = batches(4, size)
    found = reduce(add, map(Histogram.of_batch, some))
    scores = np.stack([batch.numpy() for batch in some])
    diagonal = np.broadcast_to(np.eye(size, dtype=bool), scores.shape)
    edges = np.linspace(-1, 1, BINS + 1)
    np.testing.assert_array_equal(found.matching, np.histogram(scores[diagonal], edges)[0])
    np.testing.assert_array_equal(found.others, np.histogram(scores[~diagonal], edges)[0])
    matching, others = found.accepted()
    for bin in range(0, BINS, 997):
        assert matching[bin] == (scores[diagonal] >= edges[bin]).sum()
        assert others[bin] == (scores[~diagonal] >= edges[bin]).sum()


@pytest.mark.parametrize("rule", ["f1", "break_even", "product", "youden"])
def test_the_threshold_is_that_of_the_whole_curve(rule: Rule) -> None:
    some = batches(6, 32, seed=2)
    found = choose_threshold(reduce(add, map(Histogram.of_batch, some)), rule)
    scores = np.concatenate([batch.numpy().ravel() for batch in some])
    matching = np.concatenate([np.eye(32, dtype=bool).ravel()] * 6)
    precision, recall, cuts = precision_recall_curve(matching, scores)
    precision, recall = precision[:-1], recall[:-1]
    if rule == "youden":
        wrong, right, cuts = roc_curve(matching, scores, drop_intermediate=False)
        goodness = right - wrong
    else:
        with np.errstate(invalid="ignore"):
            both = 2 * precision * recall / (precision + recall)
        goodness = {
            "f1": np.nan_to_num(both),
            "product": precision * recall,
            "break_even": np.where(recall > 0, -abs(precision - recall), -np.inf),
        }[rule]
    best = cuts[np.flatnonzero(goodness == goodness.max())].max()
    # Similarities lie in the middle of their bins: the bin's lower edge accepts the same.
    assert found.value == pytest.approx(best - 1 / BINS, abs=1e-9)
    accepted = scores >= found.value
    assert found.precision == pytest.approx(matching[accepted].mean())
    assert found.recall == pytest.approx(accepted[matching].mean())
    assert (found.pairs, found.others) == (6 * 32, 6 * 32 * 31)


def test_of_equal_thresholds_the_largest() -> None:
    batch = torch.tensor([[0.5, -0.5], [-0.5, 0.5]])
    found = choose_threshold(Histogram.of_batch(batch, bins=8))
    assert (found.value, found.precision, found.recall) == (0.5, 1, 1)


def test_the_f1_threshold_rises_with_the_batch() -> None:
    values = [
        choose_threshold(reduce(add, map(Histogram.of_batch, batches(4096 // size, size)))).value
        for size in (4, 32, 256)
    ]
    assert values == sorted(values) and values[0] < values[-1]


def test_what_lies_outside_is_counted_at_the_edge() -> None:
    found = Histogram.of_batch(torch.tensor([[2.0, -3.0], [0.0, 1.0]]), bins=4)
    assert found.matching.tolist() == [0, 0, 0, 2] and found.others.tolist() == [1, 0, 1, 0]


def test_what_is_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a square, not \\(2, 3\\)"):
        Histogram.of_batch(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="a similarity is no number"):
        Histogram.of_batch(torch.tensor([[0.0, torch.nan], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="do not add up"):
        Histogram.empty(4) + Histogram.empty(5)
    with pytest.raises(ValueError, match="1 matching and 0 other pairs give no threshold"):
        choose_threshold(Histogram.of_batch(torch.zeros(1, 1)))
    with pytest.raises(ValueError, match="there is no rule best"):
        choose_threshold(Histogram.of_batch(torch.zeros(2, 2)), "best")  # type: ignore[arg-type]
