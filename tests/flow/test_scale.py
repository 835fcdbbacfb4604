"""Two kinds of models on simulated nodes with many GPUs: a node is lost, another one comes late."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.flow import noting, runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]

SAMPLES, PER_SHARD = 3000, 300
PARTS = SAMPLES // runs.PART_ROWS
#: Beside the actors' CPUs there are some for three readers; each is a process.
NODE: dict[str, Any] = {"num_cpus": 3, "num_gpus": 22}


def recipe(path: Path, images: Path, delay_s: float, **pools: dict[str, Any]) -> Path:
    script = {"backend": "scripted", "script": "tests.flow.noting:answer", "cpus": 0.05}
    # Captions take five times as long as the rest, so that there is work for all who write them.
    delays = {"seer": delay_s, "poet": 5 * delay_s}
    generators = {name: {**script, "delay_s": delays[name], **pools.get(name, {})} for name in delays}
    return runs.write_recipe(path, images, generators=generators)


def test_a_node_is_lost_and_another_comes_at_64_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines of two GPUs and twice as many of half a one: 66 actors on 66 GPUs of three nodes."""
    images, out, notes = (
        runs.write_tars(tmp_path / "images", SAMPLES, PER_SHARD),
        tmp_path / "out",
        tmp_path / "notes",
    )
    runs.finish_alone(recipe(tmp_path / "small.yaml", images, 0), tmp_path / "undisturbed")
    undisturbed = runs.tables(tmp_path / "undisturbed")
    assert len(undisturbed) == 3 * PARTS
    monkeypatch.setenv("NOTES", str(notes))
    seer, poet = ({"actors": "auto", "share": share, "gpus": gpus} for share, gpus in ((2, 2), (1, 0.5)))
    large = recipe(tmp_path / "large.yaml", images, 2.0, seer=seer, poet=poet)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes = [cluster.add_node(**NODE) for _ in range(3)]
        process = runs.start(large, out, "--address", cluster.address)
        process.wait_for(lambda: len({note.pid for note in noting.read(notes)}) >= 64, seconds=900)
        kept = runs.stamps(out)
        cluster.remove_node(nodes[1], allow_graceful=False)
        assert len(kept) < 2 * PARTS, "the node was lost too late to show anything"
        late = cluster.add_node(**NODE)
        text = process.end(900)
        assert process.returncode == 0, text
    finally:
        cluster.shutdown()
    assert re.search(r"22 of seer .*, 44 of poet .*as `share` says", text), text
    assert runs.tables(out) == undisturbed
    after = runs.stamps(out)
    assert {name: after[name] for name in kept} == kept, "a committed part was computed again"
    assert any(note.node == late.node_id for note in noting.read(notes)), "the late node was used"
