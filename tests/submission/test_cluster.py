"""Recipes submitted to a real cluster, with kills: the output equals an undisturbed run's."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import engine
from tests.flow import runs
from tests.process import Run
from tests.submission.head import Head

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    head = Head()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in head.variables.items():
            patch.setenv(name, value)
        yield head
    head.remove()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_tars(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def undisturbed(head: Head, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of `connote run` on the same cluster."""
    root = tmp_path_factory.mktemp("undisturbed")
    runs.finish_alone(runs.write_recipe(root / "recipe.yaml", images), root / "out", "--address", head.gcs)
    found = runs.tables(root / "out")
    assert len(found) == 3 * runs.PARTS
    return found


@pytest.fixture
def work(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a slow recipe, whose run directory is beside it."""
    work = tmp_path / "work"
    work.mkdir()
    runs.write_recipe(work / "recipe.yaml", images, delay_s=0.06)
    monkeypatch.chdir(work)
    return work


def connote(command: str, head: Head, *arguments: str | Path) -> Run:
    return Run("jobs.command", command, *arguments, "--address", head.dashboard)


def submit(head: Head, out: Path, *options: str) -> Run:
    return connote("submit", head, "recipe.yaml", "--out", out, "--pause", "0.5", *options)


def process_of(*words: str) -> psutil.Process:
    """The process of a job: the Python whose command line has these words."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            line = process.cmdline()
            if line[1:2] == ["-m"] and all(any(word in each for each in line) for word in words):
                return process
    raise AssertionError(f"no process has {words}")


def committed(out: Path, count: int) -> bool:
    return out.exists() and len(runs.tables(out)) >= count


def test_a_checkout_runs_and_its_killed_driver_is_submitted_again(
    head: Head, undisturbed: dict[str, bytes], work: Path, tmp_path: Path
) -> None:
    """The working directory is a checkout with a change of its own, which is what runs."""
    checkout = Path(engine.__file__).parents[1]
    for package in ("engine", "jobs"):
        skipped = shutil.ignore_patterns("__pycache__", "model", "clip_model", "voters")
        shutil.copytree(checkout / package, work / package, ignore=skipped)
    changed = work / "jobs" / "mine.py"
    changed.write_text(changed.read_text().replace('if __name__ == "__main__":', _GREETING, 1))
    (work / ".env").write_text("SECRET=1")
    out = tmp_path / "out"
    process = submit(head, out, "--env", "GREETING=it runs from the checkout", "--attempts", "3")
    process.wait_for(lambda: committed(out, 3))
    process_of("jobs.mine", str(out)).send_signal(signal.SIGKILL)
    assert not committed(out, 3 * runs.PARTS), "the kill came too late to show anything"
    said = process.end(300)
    assert process.returncode == 0, said
    assert "mine-1 was ended by SIGKILL" in said
    assert "mine-2 is complete" in said
    assert said.count("it runs from the checkout, without .env") == 2
    assert runs.tables(out) == undisturbed
    told = connote("logs", head, out).end()
    assert "it runs from the checkout" in told
    assert "connote export" in told, "the newest attempt's, to the end"


_GREETING = """if __name__ == "__main__":
    import os

    here = "with" if Path(".env").exists() else "without"
    print(f"{os.environ['GREETING']}, {here} .env")
"""


def test_detached_it_survives_the_terminal(
    head: Head, undisturbed: dict[str, bytes], work: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = submit(head, out, "--detach", "--attempts", "3")
    process.wait_for(lambda: "which supervises" in process.said())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.wait_for(lambda: committed(out, 3))
    process_of("jobs.mine", str(out)).send_signal(signal.SIGKILL)
    assert not committed(out, 3 * runs.PARTS), "the kill came too late to show anything"
    again = submit(head, out)
    assert "is being supervised by job" in again.end()
    assert again.returncode == 2
    follower = connote("logs", head, out, "--follow")
    said = follower.end(300)
    assert follower.returncode == 0, said
    assert runs.tables(out) == undisturbed
    assert "mine-2" in said


def test_a_lost_supervisor_is_followed_by_another_and_stopped_by_hand(
    head: Head, images: Path, work: Path, tmp_path: Path
) -> None:
    runs.write_recipe(work / "recipe.yaml", images, delay_s=2.0)  # it is never complete
    out = tmp_path / "out"
    detached = submit(head, out, "--detach")
    assert "which supervises" in detached.end()
    detached.wait_for(lambda: committed(out, 1))
    process_of("jobs.supervise").send_signal(signal.SIGKILL)
    detached.wait_for(lambda: "failed" in _states(head, out, "supervisor"))
    other = submit(head, out)
    other.wait_for(lambda: "mine-1 is running" in other.said())
    assert "stopped" in connote("stop", head, out).end()
    said = other.end(120)
    assert other.returncode == 130, said
    assert "mine-1 was stopped" in said
    assert "stopped" in _states(head, out, "mine-1")
    assert len(runs.tables(out)) < 3 * runs.PARTS, "the stop came too late to show anything"


def _states(head: Head, out: Path, job: str) -> str:
    return "\n".join(line for line in connote("status", head, out).end().splitlines() if job in line)


def test_the_head_is_killed_and_started_again(
    head: Head, undisturbed: dict[str, bytes], work: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = submit(head, out, "--attempts", "2")
    process.wait_for(lambda: committed(out, 3))
    head.kill()
    assert not committed(out, 3 * runs.PARTS), "the kill came too late to show anything"
    process.wait_for(lambda: "does not answer" in process.said())
    head.start()
    said = process.end(300)
    assert process.returncode == 0, said
    assert "the cluster answers again" in said
    assert "mine-2 is complete" in said
    assert runs.tables(out) == undisturbed


def test_the_head_is_lost_with_the_supervisor_that_was_its_job(
    head: Head, undisturbed: dict[str, bytes], work: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    detached = submit(head, out, "--detach")
    assert "which supervises" in detached.end()
    follower = connote("logs", head, out, "--follow")
    follower.wait_for(lambda: committed(out, 3))
    head.kill()
    assert not committed(out, 3 * runs.PARTS), "the kill came too late to show anything"
    said = follower.end(120)
    assert follower.returncode == 3 and "submit the recipe again" in said, said
    head.start()
    assert "the cluster knows none of this run" in connote("status", head, out).end()
    logs = connote("logs", head, out)
    assert "submit the recipe again" in logs.end() and logs.returncode == 3
    again = submit(head, out)
    said = again.end(300)
    assert again.returncode == 0 and "mine-1 is complete" in said, said
    assert runs.tables(out) == undisturbed
