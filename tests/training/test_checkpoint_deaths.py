from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from engine.errors import StorageError
from engine.storage import Location, locate
from engine.storage.location import explained
from engine.training import checkpoint_files
from engine.training.checkpoint import Checkpoints
from tests.training.checkpoints import FILES, holds, names, save, saved


class Killed(BaseException):
    """Stands for the process ending there: nothing catches it."""


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


#: Saves one after another: step, score. With what is kept, the best and an equal step among them.
STORY: list[tuple[int, float | None]] = [(1, None), (2, 0.9), (3, 0.1), (3, 0.2), (4, None), (5, 0.95)]


@contextmanager
def interrupted(
    monkeypatch: pytest.MonkeyPatch, die: Callable[[], None], at: int, after: bool
) -> Iterator[Iterator[int]]:
    """Every operation on the storage is counted, and `die` called before or after the one of a number."""
    calls, write, delete = count(), Location.write_bytes, Location.delete

    def meet(operation: Callable[[], Any]) -> Any:
        mine = next(calls) == at
        if mine and not after:
            die()
        found = operation()
        if mine and after:
            die()
        return found

    @contextmanager
    def removal(place: Location) -> Iterator[None]:
        with explained(place):
            meet(lambda: None)
            yield

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write_bytes", lambda *a, **k: meet(lambda: write(*a, **k)))
        patch.setattr(Location, "delete", lambda *a: meet(lambda: delete(*a)))
        patch.setattr(checkpoint_files, "explained", removal)
        yield calls


def tell(checkpoints: Checkpoints) -> tuple[int, bool]:
    """Save the story; the last step that was reported whole, and whether it came to its end."""
    whole = -1
    try:
        for step, score in STORY:
            save(checkpoints, step, score)
            checkpoints.wait()
            whole = step
    except (Killed, StorageError):
        return whole, False
    return whole, True


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_a_death_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_waiting_for_the_disk: None, keep: int, after: bool
) -> None:
    def die() -> None:
        raise Killed

    for at in count():
        directory = tmp_path / str(at)
        with interrupted(monkeypatch, die, at, after):
            whole, ended = tell(Checkpoints(locate(directory), keep))
        again = Checkpoints(locate(directory), keep, lambda line: pytest.fail(line))
        found = again.newest()
        if whole > 0:
            assert found is not None and found.step >= whole and holds(found, found.step)
        save(again, 6)
        assert holds(again.newest(), 6)
        left = names(directory)
        assert len(left) <= keep + 1 and all(names(directory / name) == FILES for name in left)
        if ended:
            assert at > 30
            return


@pytest.mark.parametrize("after", [False, True])
def test_a_full_disk_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_waiting_for_the_disk: None, after: bool
) -> None:
    def refuse() -> None:
        raise StorageError("the disk is full")

    for at in count():
        directory = tmp_path / str(at)
        checkpoints = Checkpoints(locate(directory), 1)
        with interrupted(monkeypatch, refuse, at, after):
            whole, ended = tell(checkpoints)
        found = checkpoints.newest()
        assert whole < 0 or (found is not None and found.step >= whole and holds(found, found.step))
        save(checkpoints, 6)
        assert holds(checkpoints.newest(), 6)
        if ended:
            assert at > 30
            return


def test_errors_come_up_at_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = saved(tmp_path, 1, 1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        save(checkpoints, 2)
        with pytest.raises(StorageError, match=r"step-00000002/weights\.safetensors: the disk is full"):
            save(checkpoints, 3)
    assert names(tmp_path) == ["step-00000001"], "what was begun is removed"
    checkpoints.wait()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "_digest", lambda _: 1 / 0)
        save(checkpoints, 2)
        with pytest.raises(StorageError, match=r"step-00000002: cannot be written \(ZeroDivisionError"):
            checkpoints.close()
    assert holds(Checkpoints(locate(tmp_path), 1).newest(), 1)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from engine.storage import locate
from engine.training.checkpoint import Checkpoints

torch.set_num_threads(1)
directory, told, pause = locate(sys.argv[1]), Path(sys.argv[2]), random.Random(0)
first = kills = 0
# Until they saved something between the kills, too.
while kills < 15 or first <= 15:
    kills += 1
    child = os.fork()
    if not child:
        checkpoints = Checkpoints(directory, 1)
        for step in range(first, first + 10**6):
            checkpoints.save(step, {"w": torch.full((50_000,), float(step))}, {"position": step})
            if step % 2:
                checkpoints.wait()
                with told.open("a") as file:
                    file.write(f"{step}\\n")
    time.sleep(pause.uniform(0.02, 0.15))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = Checkpoints(directory, 1).newest()
    reported = int(told.read_text().split()[-1]) if told.exists() else -1
    step = found.step if found else -1
    assert step >= reported, (step, reported)
    assert found is None or (found.weights["w"] == step).all() and found.state == {"position": step}
    first = step + 1
"""


def test_processes_that_are_killed_while_they_save(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "checkpoints"), str(tmp_path / "told")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


FULL = """
import sys
import torch
from engine.errors import StorageError
from engine.storage import locate
from engine.training.checkpoint import Checkpoints

checkpoints, weights = Checkpoints(locate(sys.argv[1]), 3), {"w": torch.ones(50_000)}
try:
    for step in range(9):
        checkpoints.save(step, weights, {"position": step})
    checkpoints.wait()
except StorageError as error:
    print(error)
print("newest", checkpoints.newest().step)
print(sorted(path.path[-8:] for path in checkpoints._directory.entries()))
"""


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    isolated = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("no mounts of one's own here")
    script = 'mount -t tmpfs -o size=500k none "$1" && exec "$2" -c "$3" "$1"'
    command = [*isolated, "sh", "-c", script, "sh", str(small), sys.executable, FULL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "step-00000002/weights.safetensors: the disk is full; make room" in lines[0]
    assert lines[1:] == ["newest 1", "['00000000', '00000001']"]
