"""Nodes that are told to leave finish what they have; nodes that join later are used."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from tests.flow import noting, runs
from tests.process import Run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    return tmp_path / "notes"


def recipe(tmp_path: Path, images: Path, actors: object, delay_s: float) -> Path:
    """One pool, so that there is no doubt who is asked."""
    script = {"backend": "scripted", "script": "tests.flow.noting:answer", "delay_s": delay_s}
    sections = {"generators": {"seer": {**script, "actors": actors, "cpus": 1}}, "associate": None}
    return runs.write_recipe(tmp_path / "recipe.yaml", images, **sections, caption=None)


def drain(cluster: Cluster, node: str, seconds: float) -> None:
    """What a cloud's notice becomes: `ray drain-node` with a deadline."""
    client = ray._raylet.GcsClient(address=cluster.address)
    deadline = int((time.time() + seconds) * 1000)
    accepted, why = client.drain_node(node, DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, "spot", deadline)
    assert accepted, why


def quiet(process: Run, notes: Path, node: str) -> None:
    """Wait until a node has been asked nothing for a while."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < 4:
        assert process.poll() is None, "the run ended before the node was done"
        if (now := sum(note.node == node for note in noting.read(notes))) != count:
            count, since = now, time.monotonic()
        time.sleep(0.1)


def test_a_node_that_is_told_to_leave_finishes_what_it_has(tmp_path: Path, notes: Path) -> None:
    images, out = runs.write_tars(tmp_path / "images", 240, 60), tmp_path / "out"
    path = recipe(tmp_path, images, 2, delay_s=0.5)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = {node.node_id: node for node in (cluster.add_node(num_cpus=2) for _ in range(2))}
        process = runs.start(path, out, "--address", cluster.address)
        process.wait_for(lambda: len({note.node for note in noting.read(notes)}) == 2)
        leaving = next(iter(nodes))
        drain(cluster, leaving, 120)
        told = len(noting.read(notes))
        quiet(process, notes, leaving)
        cluster.remove_node(nodes[leaving], allow_graceful=False)
        text = process.end(600)
        assert process.returncode == 0, text
    finally:
        cluster.shutdown()
    asked = noting.read(notes)
    after = sum(note.node == leaving for note in asked[told:])
    assert after <= 4 * runs.PART_ROWS, "no more than the parts it had, and the ones on their way"
    assert sum(note.node != leaving for note in asked) > after
    again = [request for request, times in Counter(note.request for note in asked).items() if times > 1]
    assert again == [], "nothing was asked twice, though the node is gone"
    assert "240/240" in text


def test_a_pool_grows_on_a_node_that_joins_later(tmp_path: Path, notes: Path) -> None:
    images, out = runs.write_tars(tmp_path / "images", 240, 60), tmp_path / "out"
    path = recipe(tmp_path, images, {"min": "auto", "max": 4}, delay_s=3)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        process = runs.start(path, out, "--address", cluster.address)
        process.wait_for(lambda: out.exists() and len(runs.tables(out)) > 2)
        late = cluster.add_node(num_cpus=2).node_id
        text = process.end(600)
        assert process.returncode == 0, text
    finally:
        cluster.shutdown()
    asked = Counter(note.node for note in noting.read(notes))
    assert "actors     1 of seer" in text
    assert asked[late] > 0, asked
