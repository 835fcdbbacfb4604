"""Two kinds of models on simulated nodes with many GPUs: a node is lost, another one comes late."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.flow import runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]

SAMPLES, PER_SHARD = 1200, 120
PARTS = SAMPLES // PER_SHARD * (PER_SHARD // runs.PART_ROWS)
#: Beside the actors' CPUs there are some for three readers; each is a process.
NODE: dict[str, Any] = {"num_cpus": 3, "num_gpus": 22}


def recipe(path: Path, images: Path, delay_s: float, **pools: dict[str, Any]) -> Path:
    script = {"backend": "scripted", "delay_s": delay_s}
    small = {"seer": {"cpus": 0.25}, "poet": {"cpus": 0.25}}
    generators = {name: {**script, **(pools or small)[name]} for name in ("seer", "poet")}
    return runs.write_recipe(path, images, generators=generators)


def test_a_node_is_lost_and_another_comes_at_64_actors(tmp_path: Path) -> None:
    """An engine of two GPUs and two actors on each of the others: 66 actors on 66 GPUs of three nodes."""
    images = runs.write_tars(tmp_path / "images", SAMPLES, PER_SHARD)
    runs.finish_alone(recipe(tmp_path / "small.yaml", images, 0), tmp_path / "undisturbed")
    undisturbed = runs.tables(tmp_path / "undisturbed")
    assert len(undisturbed) == 3 * PARTS
    pools = {
        "seer": {"actors": "auto", "share": 2, "gpus": 2, "cpus": 0.05},
        "poet": {"actors": "auto", "share": 1, "gpus": 0.5, "cpus": 0.05},
    }
    large, out = recipe(tmp_path / "large.yaml", images, 1.0, **pools), tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes = [cluster.add_node(**NODE) for _ in range(3)]
        process = runs.start(large, out, "--address", cluster.address)
        process.wait_for(lambda: out.exists() and len(runs.tables(out)) >= PARTS // 4, seconds=600)
        kept = runs.stamps(out)
        cluster.remove_node(nodes[1], allow_graceful=False)
        assert len(runs.tables(out)) < 2 * PARTS, "the node was lost too late to show anything"
        cluster.add_node(**NODE)
        text = process.end(900)
        assert process.returncode == 0, text
    finally:
        cluster.shutdown()
    assert re.search(r"22 of seer .*, 44 of poet .*as `share` says", text), text
    assert runs.tables(out) == undisturbed
    after = runs.stamps(out)
    assert {name: after[name] for name in kept} == kept, "a committed part was computed again"
    counted = json.loads((out / "summary.json").read_text())["session"]["pools"]
    assert sum(pool["actors"] for pool in counted.values()) > 66, "those on the late node worked, too"
