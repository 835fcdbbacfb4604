"""Weights are fetched from their hub once for each node, however many actors it has."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.encoders import tiny
from tests.flow import runs
from tests.hub import Hub


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.cluster
def test_each_node_fetches_once(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.build("dinov2", tmp_path / "models" / "org" / "tiny")
    hub = Hub(tmp_path / "models", delay_s=2)
    for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "driver")}.items():
        monkeypatch.setenv(name, value)
    out, embed = tmp_path / "out", {"encoders": ["hf:org/tiny"], "actors": "auto", "cpus": 1}
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml", images, describe=None, associate=None, caption=None, embed=embed
    )
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for node in ("one", "two"):
            cluster.add_node(num_cpus=3, env_vars={"HF_HOME": str(tmp_path / node)})
        text = runs.finish_alone(recipe, out, "--address", cluster.address)
    finally:
        cluster.shutdown()
        hub.close()
    assert "actors     5 of embed" in text
    assert len(runs.tables(out)) == runs.PARTS
    assert hub.fetched == {"model.safetensors": 2}, "five actors on two nodes"
    for node in ("one", "two"):
        assert list((tmp_path / node).rglob("model.safetensors"))
