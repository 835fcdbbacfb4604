"""What pools need of a cluster, at the same time and one after the other."""

from __future__ import annotations

from engine.flow.capacity import Need, Reservation

VLM = Reservation("vlm", actors=2, cpus=4, gpus=1)
EMBED = Reservation("embed", actors=3, cpus=1, gpus=0.5)


def test_pools_that_run_together() -> None:
    need = Need([VLM, EMBED], beside=0.45)
    assert (need.cpus, need.gpus) == (11.45, 3.5)
    assert need.bundles() == [{"CPU": 4, "GPU": 1}] * 2 + [{"CPU": 1, "GPU": 0.5}] * 3


def test_pools_that_run_one_after_the_other_ask_for_the_largest() -> None:
    need = Need([Reservation("cluster", 1, 16, 0), VLM, EMBED], together=False)
    assert (need.cpus, need.gpus) == (16, 2)
    assert need.bundles() == [{"CPU": 16}] + [{"CPU": 4, "GPU": 1}] * 2


def test_nothing_is_needed_of_no_pool() -> None:
    assert (Need([], together=False).cpus, Need([]).gpus, Need([], together=False).bundles()) == (0, 0, [])
