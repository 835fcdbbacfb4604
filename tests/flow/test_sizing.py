"""Room that a cluster has and others hold; GPUs of a type. On simulated nodes with GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group

from tests.flow import noting, runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where workers note what they are asked; they have the environment in which their node started."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("notes") / "notes"
        patch.setenv("NOTES", str(path))
        yield path


@pytest.fixture(scope="module")
def cluster(notes: Path) -> Iterator[Cluster]:
    """A node with two A10G, and one with two H100."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for kind in ("A10G", "H100"):
        cluster.add_node(num_cpus=2, num_gpus=2, resources={f"accelerator_type:{kind}": 1})
    ray.init(address=cluster.address, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def recipe(tmp_path: Path, images: Path, **pool: Any) -> Path:
    seer = {"backend": "scripted", "script": "tests.flow.noting:answer", "cpus": 0.25, **pool}
    sections = {"generators": {"seer": seer}, "associate": None}
    return runs.write_recipe(tmp_path / "recipe.yaml", images, **sections, caption=None)


def test_what_others_hold_is_not_waited_for_unless_told(
    cluster: Cluster, images: Path, tmp_path: Path
) -> None:
    path, out = recipe(tmp_path, images, gpus=2, actors=2), tmp_path / "out"
    held = placement_group([{"GPU": 2}])
    assert held.wait(30)
    try:
        text = runs.finish_alone(path, out, "--address", cluster.address, status=2)
        assert "seer (describe): there is room for 1 of its 2 actors now, others hold the rest" in text
        assert not runs.tables(out)
        free = recipe(tmp_path, images, gpus=2, actors="auto")
        text = runs.finish_alone(free, tmp_path / "auto", "--address", cluster.address)
        assert "actors     1 of seer (describe)" in text
        waiting = runs.start(path, out, "--address", cluster.address, "--wait", "--set", _TWO)
        waiting.wait_for(lambda: "waiting for room" in waiting.said())
    finally:
        ray.util.remove_placement_group(held)
    text = waiting.end(300)
    assert waiting.returncode == 0, text
    assert runs.tables(out) == runs.tables(tmp_path / "auto"), "how many there were decides nothing"


_TWO = "generators.seer.actors=2"


def test_auto_does_not_begin_where_nothing_is_left(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    path, out = recipe(tmp_path, images, gpus=1, actors="auto"), tmp_path / "out"
    held = placement_group([{"GPU": 2}] * 2)
    assert held.wait(30)
    try:
        text = runs.finish_alone(path, out, "--address", cluster.address, status=2)
    finally:
        ray.util.remove_placement_group(held)
    assert "there is room for 0 of at least 1 actors of seer (describe) now" in text


def test_shares_that_do_not_divide_a_gpu(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    path, out = recipe(tmp_path, images, gpus=0.4, actors="auto"), tmp_path / "out"
    text = runs.finish_alone(path, out, "--address", cluster.address)
    assert "actors     8 of seer (describe)" in text and len(runs.tables(out)) == runs.PARTS


def test_a_pool_stays_on_nodes_with_its_type_of_gpu(
    cluster: Cluster, notes: Path, images: Path, tmp_path: Path
) -> None:
    before = len(noting.read(notes))
    path, out = recipe(tmp_path, images, gpus=1, gpu_type="H100", actors="auto"), tmp_path / "out"
    text = runs.finish_alone(path, out, "--address", cluster.address)
    assert "actors     2 of seer (describe)" in text
    (there,) = (node["NodeID"] for node in ray.nodes() if "accelerator_type:H100" in node["Resources"])
    assert {note.node for note in noting.read(notes)[before:]} == {there}
    missing = recipe(tmp_path, images, gpus=1, gpu_type="B200", actors="auto")
    text = runs.finish_alone(missing, tmp_path / "other", "--address", cluster.address, status=2)
    assert (
        "seer (describe): gpu_type is B200, and the cluster's nodes have A10G, H100; name one of these"
        in text
    )
