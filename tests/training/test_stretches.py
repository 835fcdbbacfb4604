from __future__ import annotations

from engine.training.stretches import Stretches, begin


def test_each_change_is_noted_once_and_told_as_what_it_is() -> None:
    stretches: Stretches = []
    assert begin(stretches, 0, 1200, 2) == "training 1,200 steps, with 2 workers"
    assert begin(stretches, 40, 1200, 2) == "going on from step 40 of 1,200, with 2 workers"
    assert stretches == [(0, 2)]
    line = begin(stretches, 80, 1200, 1)
    assert line.startswith(
        "going on from step 80 of 1,200, with 1 worker instead of 2: the batches are the same"
    )
    begin(stretches, 1000, 1200, 2)
    assert stretches == [(0, 2), (80, 1), (1000, 2)]


def test_behind_the_last_step_no_number_of_workers_counts() -> None:
    """A training that was killed while it wrote its model."""
    stretches: Stretches = [(0, 1)]
    assert begin(stretches, 14, 14, 2) == "going on behind the last step"
    assert stretches == [(0, 1)]


def test_a_training_that_began_before_this_was_kept() -> None:
    stretches: Stretches = []
    assert begin(stretches, 7, 12, 1) == "going on from step 7 of 12, with 1 worker"
    assert stretches == [(7, 1)]
