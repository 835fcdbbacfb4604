"""A cluster is asked before work starts what its nodes do not reach."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ray._private.utils
from ray.cluster_utils import Cluster

from engine.flow.cluster import _versions
from engine.storage import Location
from tests import mounts
from tests.flow import runs

VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that does no work, and a node that knows nothing of the object store."""
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        made.add_node(num_cpus=2)
    yield made
    made.shutdown()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def refused(cluster: Cluster, recipe: Path, out: Path | str) -> str:
    return runs.finish_alone(recipe, out, "--address", cluster.address, status=2)


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_without_the_stores_variables(
    cluster: Cluster, images: Path, bucket: str, tmp_path: Path
) -> None:
    text = refused(cluster, runs.write_recipe(tmp_path / "recipe.yaml", images), f"{bucket}/run")
    assert text.count("\n  node ") == 1 and f": {bucket}/run: " in text
    assert f"not set there, but where this command runs: {', '.join(VARIABLES)}" in text
    assert not [info.path for info in Location(bucket).entries(recursive=True) if info.is_file and info.size]


@pytest.mark.ray
@pytest.mark.slow
@mounts.needed
def test_a_node_that_has_another_disk_there(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    """A local path, then: to that node it is its own, whoever else has one of that name."""
    before = sum(each["Alive"] for each in cluster.global_state.node_table())
    own = tmp_path / "own"
    shutil.copytree(images, own / "images")
    beneath = mounts.beneath(f"mount -t tmpfs none {own}")
    ray_start = [str(Path(sys.executable).with_name("ray")), "start", "--address", cluster.address, "--block"]
    node = subprocess.Popen([*beneath, *ray_start, "--num-cpus", "1"], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: sum(each["Alive"] for each in cluster.global_state.node_table()) > before)
        recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
        text = refused(cluster, recipe, own / "out")
        assert text.count("\n  node ") == 1, text
        assert f": {own}/out: is not there, or is another directory than the one of that name" in text
        assert not (own / "out").exists()
        recipe = runs.write_recipe(tmp_path / "recipe.yaml", own / "images")
        text = refused(cluster, recipe, tmp_path / "out")
        assert text.count("\n  node ") == 1, text
        assert f": {own}/images/00000.tar: does not exist" in text
        assert not (tmp_path / "out").exists()
    finally:
        for process in [*psutil.Process(node.pid).children(recursive=True), node]:
            process.kill()
        node.wait()


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"ray_version": "2.50.1"}, "runs Ray 2.50.1 and Python 3."),
        ({"python_version": "3.9.1"}, f"runs Ray {ray.__version__} and Python 3.9.1"),
    ],
)
def test_a_cluster_of_other_versions(there: dict[str, str], told: str) -> None:
    """Ray's own check speaks of processes; this is the refusal that it raises."""
    ray_version, python_version = ray._private.utils.compute_version_info()[:2]
    cluster = {"ray_version": ray_version, "python_version": python_version, **there}
    with pytest.raises(RuntimeError) as raised:
        ray._private.utils.check_version_info(cluster, "node 10.0.0.1")
    message = _versions("10.0.0.1:6379", str(raised.value))
    assert message is not None and message.startswith("the cluster at 10.0.0.1:6379 ") and told in message
    assert "install this environment on the cluster's nodes" in message
    assert _versions("10.0.0.1:6379", "connection refused") is None
