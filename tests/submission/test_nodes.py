"""The terrarium's recipe, submitted to a head and two nodes that work: each of them dies once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.flow import runs
from tests.process import Run
from tests.results import results, stamps
from tests.submission.head import Head, Node

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.vllm, pytest.mark.cluster]

RECIPE = Path("jobs/recipes/terrarium.yaml")
SCENES = 32
#: An engine takes two of a node's CPUs, so that each of two nodes has one.
CPUS = 3
SETTINGS = ("run.part_rows=4", "generators.seer.actors=2", "generators.seer.cpus=2", "sample.count=12")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scenes")
    write = [sys.executable, "-m", "engine.terrarium.write", str(directory), "--scenes", str(SCENES)]
    subprocess.run([*write, "--shard-rows", "8", "--seed", "3"], check=True)
    return directory


def settings(scenes: Path) -> list[str]:
    return [word for each in (f"images.uri={scenes}", *SETTINGS) for word in ("--set", each)]


@pytest.fixture(scope="module")
def undisturbed(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one command on this machine."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    runs.finish_alone(RECIPE, out, *settings(scenes))
    return out


@pytest.fixture
def head(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    """A head that does no work itself; only now, so that nobody waits for two."""
    head = Head(cpus=0)
    for name, value in head.variables.items():
        monkeypatch.setenv(name, value)
    yield head
    head.remove()


@pytest.fixture
def nodes(head: Head) -> Iterator[list[Node]]:
    """The nodes that work; who adds to them leaves their end to this."""
    nodes = [head.worker(CPUS), head.worker(CPUS)]
    yield nodes
    for node in nodes:
        node.remove()


def submit(head: Head, scenes: Path, out: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    work.mkdir()
    shutil.copy(RECIPE, work)
    monkeypatch.chdir(work)
    given = [RECIPE.name, "--out", out, *settings(scenes), "--pause", "1"]
    return Run("jobs.command", "submit", *given, "--address", head.dashboard)


def engine_seconds(node: Node) -> float:
    """The processor time that a node's engines have used."""
    seconds = 0.0
    for process in runs.titled(node.processes(), *runs.ENGINES):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            seconds += process.cpu_times().user
    return seconds


def driver_of(head: Head) -> psutil.Process:
    (driver,) = (p for p in head.processes() if p.cmdline()[1:3] == ["-m", "jobs.mine"])
    return driver


@pytest.mark.timeout(3600)
def test_driver_node_and_head_are_killed(
    head: Head,
    nodes: list[Node],
    scenes: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, all_of_them = tmp_path / "out", len(stamps(undisturbed))
    process = submit(head, scenes, out, tmp_path / "work", monkeypatch)

    process.wait_for(lambda: len(stamps(out)) >= 4, seconds=900)
    driver_of(head).kill()
    first = stamps(out)
    assert len(first) < all_of_them, "the driver was killed too late to show anything"

    process.wait_for(lambda: len(stamps(out)) >= len(first) + 4, seconds=900)
    assert "mine-1 was ended by SIGKILL" in process.said()
    victim = max(nodes, key=engine_seconds)
    assert engine_seconds(victim), "no engine was at work"
    victim.kill()
    second = stamps(out)
    assert len(second) < all_of_them, "the node was killed too late to show anything"
    nodes.append(head.worker(CPUS))

    process.wait_for(lambda: (out / "difficulty").exists(), seconds=900)
    assert len(stamps(out)) == all_of_them and "mine-2 " not in _ends(process), "the same driver went on"
    head.kill()
    assert not (out / "evaluation" / "tables.md").exists(), "the head was killed too late to show anything"
    for node in nodes:
        node.kill()
    process.wait_for(lambda: "does not answer" in process.said())
    head.start()
    nodes += [head.worker(CPUS), head.worker(CPUS)]
    said = process.end(900)
    assert process.returncode == 0, said
    assert "the cluster answers again" in said

    assert stamps(out).items() >= {**first, **second}.items(), "a committed part was computed again"
    there, here = results(out), results(undisturbed)
    assert there.keys() == here.keys()
    assert [name for name in there if there[name] != here[name]] == []


def _ends(process: Run) -> str:
    """What was said of the attempts that ended."""
    lines = process.said().splitlines()
    return "\n".join(line for line in lines if line.startswith("connote: ") and " was " in line)
