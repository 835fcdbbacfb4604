"""What pools need of a cluster, at the same time and one after the other."""

from __future__ import annotations

import pytest
from ray.autoscaler import sdk

from engine.errors import RecipeError
from engine.flow import capacity
from engine.flow.capacity import Need, Reservation, find_room

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


class Growing:
    """A cluster in Ray's words, to which a node is added at each look after the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
        self.coming, self.there = list(nodes), list[dict[str, float]]()
        self.asked: list[list[dict[str, float]]] = []
        monkeypatch.setattr(capacity.ray, "cluster_resources", self.resources)
        monkeypatch.setattr(
            capacity.ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in self.there]
        )
        monkeypatch.setattr(capacity.time, "sleep", lambda _: self.there.append(self.coming.pop(0)))
        monkeypatch.setattr(sdk, "request_resources", lambda bundles: self.asked.append(bundles))

    def resources(self) -> dict[str, float]:
        return {what: sum(node.get(what, 0) for node in self.there) for what in ("CPU", "GPU")}


def test_it_waits_until_everything_is_there_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Growing(monkeypatch, {"CPU": 6}, {"CPU": 6}, {"GPU": 2}, {"CPU": 4, "GPU": 1})
    said: list[str] = []
    find_room(Need([VLM]), grows=True, wait=True, say=said.append)
    assert cluster.coming == []
    assert [line.removeprefix("waiting for nodes: ") for line in said] == [
        "the pools (vlm) reserve 8 CPUs, the cluster has 0",
        "the pools (vlm) reserve 8 CPUs, the cluster has 6",
        "the pools (vlm) reserve 2 GPUs, the cluster has 0",
        "vlm: an actor reserves 4 CPUs and 1 GPUs, and no node of the cluster has both",
    ]
    assert cluster.asked == [[{"CPU": 4, "GPU": 1}] * 2, []], "a cluster that grows by itself is asked to"


@pytest.mark.parametrize(("grows", "wait"), [(True, False), (False, True), (False, False)])
def test_it_is_refused_where_nothing_is_to_come(
    monkeypatch: pytest.MonkeyPatch, grows: bool, wait: bool
) -> None:
    cluster = Growing(monkeypatch)
    with pytest.raises(RecipeError, match="reserve 8 CPUs, the cluster has 0; lower `actors`") as refused:
        find_room(Need([VLM]), grows=grows, wait=wait, say=print)
    assert ("--wait" in str(refused.value)) == grows and cluster.asked == []


def test_a_cluster_that_has_room_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Growing(monkeypatch)
    cluster.there.append({"CPU": 8, "GPU": 2})
    find_room(Need([VLM]), grows=True, wait=True, say=pytest.fail)
    assert cluster.asked == []
