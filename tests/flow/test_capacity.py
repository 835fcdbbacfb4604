"""What pools need of a cluster, at the same time and one after the other."""

from __future__ import annotations

from typing import Any

import pytest
from ray.autoscaler import sdk

from engine.errors import RecipeError
from engine.flow import capacity
from engine.flow.capacity import Need, find_room
from engine.planning.placing import Demand

VLM = Demand("vlm", cpus=4, gpus=1, least=2)
EMBED = Demand("embed", cpus=1, gpus=0.5, least=3)
READING = Demand("reading", cpus=0.45)


def test_pools_that_run_together() -> None:
    need = Need([VLM, EMBED, READING])
    assert (need.cpus, need.gpus) == (11.45, 3.5)
    assert need.bundles() == [{"CPU": 4, "GPU": 1}] * 2 + [{"CPU": 1, "GPU": 0.5}] * 3 + [{"CPU": 0.45}]


def test_pools_that_run_one_after_the_other_ask_for_the_largest() -> None:
    need = Need([Demand("cluster", 16), VLM, EMBED], together=False)
    assert (need.cpus, need.gpus) == (16, 2)
    assert need.bundles() == [{"CPU": 16}] + [{"CPU": 4, "GPU": 1}] * 2


def test_nothing_is_needed_of_no_pool() -> None:
    assert (Need([], together=False).cpus, Need([]).gpus, Need([], together=False).bundles()) == (0, 0, [])


class Growing:
    """A cluster in Ray's words, to which a node is added at each look after the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
        self.coming, self.there = list(nodes), list[dict[str, float]]()
        self.asked: list[list[dict[str, float]]] = []
        monkeypatch.setattr(capacity.ray, "nodes", self.nodes)
        monkeypatch.setattr(capacity.state, "get_draining_nodes", lambda: {"leaving": 0})
        monkeypatch.setattr(capacity.time, "sleep", lambda _: self.there.append(self.coming.pop(0)))
        monkeypatch.setattr(sdk, "request_resources", lambda bundles: self.asked.append(bundles))

    def nodes(self) -> list[dict[str, Any]]:
        found = [
            {"NodeID": str(name), "Alive": True, "Resources": node} for name, node in enumerate(self.there)
        ]
        return [*found, {"NodeID": "dead", "Alive": False, "Resources": {"CPU": 64, "GPU": 8}}]


def test_it_waits_until_everything_is_there_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Growing(monkeypatch, {"CPU": 6}, {"CPU": 6}, {"GPU": 2}, {"CPU": 8, "GPU": 2})
    said: list[str] = []
    find_room(Need([VLM]), grows=True, wait=True, say=said.append)
    assert cluster.coming == []
    assert [line.removeprefix("waiting for nodes: ") for line in said] == [
        "the pools (vlm) reserve 8 CPUs, the cluster has 0: room for 0 of 2 actors of vlm",
        "the pools (vlm) reserve 8 CPUs, the cluster has 6: room for 0 of 2 actors of vlm",
        "the pools (vlm) reserve 2 GPUs, the cluster has 0: room for 0 of 2 actors of vlm",
        "vlm: an actor reserves 4 CPUs and 1 GPUs, and no node of the cluster has both",
    ]
    assert cluster.asked == [[{"CPU": 4, "GPU": 1}] * 2, []], "a cluster that grows by itself is asked to"


@pytest.mark.parametrize(("grows", "wait"), [(True, False), (False, True), (False, False)])
def test_it_is_refused_where_nothing_is_to_come(
    monkeypatch: pytest.MonkeyPatch, grows: bool, wait: bool
) -> None:
    cluster = Growing(monkeypatch)
    with pytest.raises(
        RecipeError, match="reserve 8 CPUs, the cluster has 0: room for 0 of 2 actors of vlm; lower"
    ) as refused:
        find_room(Need([VLM]), grows=grows, wait=wait, say=print)
    assert ("--wait" in str(refused.value)) == grows and cluster.asked == []


def test_a_cluster_that_has_room_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Growing(monkeypatch)
    cluster.there.append({"CPU": 8, "GPU": 2})
    find_room(Need([VLM]), grows=True, wait=True, say=pytest.fail)
    assert cluster.asked == []


@pytest.mark.parametrize(
    ("nodes", "pools", "said"),
    [
        (
            [{"CPU": 64, "GPU": 6}, {"CPU": 64, "GPU": 6}],
            [Demand("llm", 8, 4, least=3)],
            "there is room for 2 of 3 actors of llm, each on one node (2 with 6 GPUs and 64 CPUs); lower",
        ),
        (
            [{"CPU": 64, "GPU": 8}],
            [Demand("llm", 8, 4, least=2), Demand("vlm", 1, 1, least=4)],
            "reserve 12 GPUs, the cluster has 8: room for 2 of 2 actors of llm, 0 of 4 actors of vlm",
        ),
        (
            [{"CPU": 64, "GPU": 8, "accelerator_type:A10G": 1}],
            [Demand("llm", 8, 4, gpu_type="H100")],
            "llm: gpu_type is H100, and the cluster's nodes have A10G; name one of these",
        ),
        ([{"CPU": 64}], [Demand("llm", 8, 4, gpu_type="H100")], "the cluster's nodes have no GPU; name"),
    ],
)
def test_what_would_fit_is_said(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], pools: list[Demand], said: str
) -> None:
    cluster = Growing(monkeypatch)
    cluster.there += nodes
    with pytest.raises(RecipeError) as refused:
        find_room(Need(pools), grows=True, wait=False, say=print)
    assert said in str(refused.value)
