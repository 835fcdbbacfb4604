"""A run waits for the nodes that its cluster lacks, when told to."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.flow import runs


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.cluster
def test_it_waits_for_nodes_when_told_to(images: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    recipe, out = runs.write_recipe(tmp_path / "recipe.yaml", images, delay_s=0.3, actors=3), tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=2)
        text = runs.finish_alone(recipe, out, "--address", cluster.address, status=2)
        assert "reserve 3.45 CPUs, the cluster has 2: room for 3 of 3 actors of seer" in text
        assert "wait for them with --wait" in text and not out.exists()
        process = runs.start(recipe, out, "--address", cluster.address, "--wait")
        process.wait_for(lambda: "waiting for nodes: the pools" in process.said())
        cluster.add_node(num_cpus=2)
        text = process.end()
        assert process.returncode == 0, text
    finally:
        cluster.shutdown()
    assert runs.tables(out) == undisturbed
    assert not list(out.glob(".probe*"))
