"""Kills in mid-run: the output equals an undisturbed run's, and nothing committed is redone."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.flow import runs
from tests.process import Run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("on_ray")]


def test_driver_killed(images: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """One run, again and again: before anything is committed, after little, after most of it."""
    recipe, out = runs.write_recipe(tmp_path / "recipe.yaml", images, delay_s=0.1), tmp_path / "out"
    kept = dict[str, tuple[int, int]]()
    for committed in (0, 1, 7, 20, 28):
        kill_driver(runs.start(recipe, out), out, committed)
        left = runs.stamps(out)
        assert left.items() >= kept.items(), "a committed part was computed again"
        assert len(kept) <= len(left) < 3 * runs.PARTS, "the kill came too late to show anything"
        kept = left
    runs.finish(recipe, out)
    assert runs.tables(out).keys() == undisturbed.keys()
    assert runs.tables(out) == undisturbed
    assert runs.stamps(out).items() >= kept.items(), "a committed part was computed again"


def kill_driver(process: Run, out: Path, committed: int) -> None:
    """When so many tables are there; nobody is left then who writes."""
    actors: list[psutil.Process] = []

    def under_way() -> bool:
        actors[:] = runs.descendants(process, "PoolActor")
        return out.exists() and len(runs.tables(out)) >= committed

    process.wait_for(under_way)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.wait_for(lambda: not any(actor.is_running() for actor in actors))


@pytest.mark.parametrize("committed", [1, 12])
def test_pool_actor_killed(
    images: Path, undisturbed: dict[str, bytes], tmp_path: Path, committed: int
) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images, delay_s=0.1, actors=2)
    out = tmp_path / "out"
    process = runs.start(recipe, out)
    process.wait_for(lambda: out.exists() and len(runs.tables(out)) >= committed)
    kept = runs.stamps(out)
    victims = runs.descendants(process, "PoolActor")
    assert len(victims) >= 2, "one of two actors in each pool is killed, the others go on"
    for victim in victims[::2]:
        victim.kill()
    text = process.end(600)
    assert process.returncode == 0, text
    assert runs.tables(out) == undisturbed
    after = runs.stamps(out)
    assert {name: after[name] for name in kept} == kept, "a committed part was computed again"


@pytest.mark.parametrize("committed", [1, 12])
def test_node_killed(
    images: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    committed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, out = (
        runs.write_recipe(tmp_path / "recipe.yaml", images, delay_s=0.1, actors=2),
        tmp_path / "out",
    )
    # Ray looks every 3 s, and takes a node for lost when five looks in a row failed.
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        process = runs.start(recipe, out, "--address", cluster.address)
        process.wait_for(lambda: out.exists() and len(runs.tables(out)) >= committed)
        kept = runs.stamps(out)
        cluster.remove_node(nodes[0], allow_graceful=False)
        cluster.add_node(num_cpus=2)
        text = process.end(600)
        assert process.returncode == 0, text
    finally:
        cluster.shutdown()
    assert runs.tables(out) == undisturbed
    after = runs.stamps(out)
    assert {name: after[name] for name in kept} == kept, "a committed part was computed again"
