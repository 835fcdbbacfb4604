"""Work under a lease: renewed, given back, ended where it is lost; processes that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import RunHeld, StorageError
from engine.lease import Holder, Lease, Timing, held
from engine.storage import locate
from tests import mounts

FAST = Timing(expiry_s=1.0, renew_s=0.05, settle_s=0.05, poll_s=0.02)

HOLD = """
import sys, time
from engine.lease import held
from engine.storage import locate
with held(locate(sys.argv[1]), "connote run"):
    print("held", flush=True)
    time.sleep(600)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_is_renewed_and_given_back(tmp_path: Path) -> None:
    file = tmp_path / "run" / "lease.json"
    with held(locate(tmp_path / "run"), "connote run", timing=FAST):
        first = file.read_text()
        wait_for(lambda: file.read_text() != first)
        (tmp_path / "run" / "result").write_text("")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["result"]


@pytest.mark.parametrize("leaving", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_given_back_after_errors_and_leaves_no_empty_directory(
    tmp_path: Path, leaving: type[BaseException]
) -> None:
    with pytest.raises(leaving), held(locate(tmp_path / "a" / "run"), "connote run", timing=FAST):
        raise leaving
    assert list(tmp_path.iterdir()) == []


def test_work_ends_when_the_lease_is_anothers(tmp_path: Path) -> None:
    theirs = replace(Holder.of_this_process("connote run", 45), host="server", kernel="another")
    with (
        pytest.raises(RunHeld, match=r"on server, since .* has taken this directory over"),
        held(locate(tmp_path), "connote run", timing=FAST),
    ):
        for _ in range(600):
            # Again and again: a renewal that is under way writes over it once.
            locate(tmp_path / "lease.json").write_bytes(theirs.content(1))
            time.sleep(0.1)
        raise AssertionError("the work was not ended")
    assert Holder.parse((tmp_path / "lease.json").read_bytes()) == theirs, "theirs is left alone"
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_work_that_is_through_when_the_lease_is_lost_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(Lease, "renew", lambda self: bool(asked.append(True)))
    with pytest.raises(RunHeld), held(locate(tmp_path), "connote run", timing=FAST):
        with pytest.raises(KeyboardInterrupt):
            wait_for(lambda: False)
        assert asked == [True]


def test_a_store_that_fails_for_a_while_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []

    def fail(_: Lease) -> bool:
        tried.append(True)
        raise StorageError("the store is away")

    monkeypatch.setattr(Lease, "renew", fail)
    with held(locate(tmp_path), "connote run", timing=FAST):
        wait_for(lambda: len(tried) > 2)


def test_a_killed_process_is_followed_at_once_and_a_living_one_waited_for(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"held\n"
    directory = locate(tmp_path / "run")
    # Its expiry lies far beyond what this test takes.
    with pytest.raises(RunHeld, match=f"process {process.pid} on"), held(directory, "connote run"):
        pass
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        process.send_signal(signal.SIGKILL)  # and nobody takes note of its end, as in many a container

    with held(directory, "connote run", wait=True, say=say, timing=FAST):
        assert len(said) == 2 and "waiting for it to end" in said[0] and "is gone" in said[1]
    process.wait()


@mounts.needed
def test_a_directory_that_can_be_read_but_not_written(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "recipe.yaml").write_text("")
    command = mounts.beneath(f"mount --bind {place} {place} && mount -o remount,ro,bind {place}")
    command += [sys.executable, "-c", HOLD, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "StorageError" in done.stderr and f"{place}: cannot be written: no permission" in done.stderr
    assert not (place / "lease.json").exists()
