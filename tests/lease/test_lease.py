"""One lease on real filesystems: who has it, whether that one is alive, what is in the file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import RunHeld, StorageError
from engine.lease import Holder, Lease, Timing
from engine.storage import Location, locate

FAST = Timing(expiry_s=1.0, renew_s=0.2, settle_s=0.1, poll_s=0.05)


@pytest.fixture(params=["local", "s3"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    if request.param == "local":
        yield locate(tmp_path / "run")
    else:
        yield Location(request.getfixturevalue("bucket") + "/run")


def lease(directory: Location, machine: str | None = None, **holder: object) -> Lease:
    """A lease of this process, or as another machine's process would have it."""
    made = Lease(directory, "connote run", FAST)
    if machine:
        made.holder = replace(made.holder, host=machine, kernel=f"boot of {machine}")
    made.holder = replace(made.holder, **holder)  # type: ignore[arg-type]
    return made


def test_it_is_taken_told_and_given_back(directory: Location) -> None:
    mine = lease(directory)
    mine.acquire(False, print)
    told = json.loads(mine.place.read_text())
    assert told["pid"] == os.getpid() and told["command"] == "connote run" and told["renewed"] == 1
    with pytest.raises(
        RunHeld, match=rf"/run: `connote run` \(process {os.getpid()} on .*, since 20.* UTC\)"
    ):
        lease(directory).acquire(False, print)
    assert mine.renew()
    mine.release()
    assert not mine.place.exists()
    lease(directory).acquire(False, print)


@pytest.mark.parametrize("started", ["1", "2"])
def test_a_process_that_is_gone_is_followed_at_once(directory: Location, started: str) -> None:
    """Its number may have been given to another one, which started at another time."""
    gone = lease(directory, started=started)
    assert gone.holder.lives() is False
    gone.acquire(False, print)
    said: list[str] = []
    watching = Lease(directory, "connote run", replace(FAST, expiry_s=10_000))
    watching.acquire(False, said.append)
    assert said == [f"{gone.holder} is gone: going on in its place"]
    assert not gone.renew(), "whoever was taken for dead finds the other's claim"
    gone.release()
    assert watching.place.exists() and watching.renew(), "it gives back nobody's lease but its own"


def test_another_machine_is_watched(directory: Location) -> None:
    other, said = lease(directory, "server"), list[str]()
    other.acquire(False, print)
    lease(directory).acquire(False, said.append)
    assert [line.partition(" (process")[0] for line in said] == [
        f"{directory.uri} is held by `connote run`",
        "`connote run`",
    ]
    assert "looking for up to 1 s whether it is alive" in said[0] and "gave no sign for 1 s" in said[1]
    assert not other.renew()


def test_another_machine_that_gives_a_sign_keeps_it(directory: Location) -> None:
    other = lease(directory, "server", expires_after_s=10.0)
    other.acquire(False, print)
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(0.2):
            assert other.renew()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        with pytest.raises(RunHeld, match=r"on server, since .* works on it; let it finish"):
            lease(directory).acquire(False, lambda line: None)
    finally:
        ended.set()
        thread.join()


def test_of_many_threads_one_gets_it(directory: Location) -> None:
    found = list[str]()

    def work(mine: Lease) -> None:
        mine.timing = replace(FAST, settle_s=4.0)
        try:
            mine.acquire(False, lambda line: None)
            found.append("held")
        except RunHeld:
            found.append("left")

    threads = [threading.Thread(target=work, args=(lease(directory),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["held"] + ["left"] * 7


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b'{"id": 1}', b'{"expires_after_s": "soon"}'])
def test_a_file_that_says_nothing_is_watched_too(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timing, "expiry_s", 0.5)
    (tmp_path / "lease.json").write_bytes(content)
    said: list[str] = []
    lease(locate(tmp_path)).acquire(False, said.append)
    assert "something that this version cannot read" in said[0]


def test_a_lease_that_somebody_deletes_is_written_again(directory: Location) -> None:
    mine = lease(directory)
    mine.acquire(False, print)
    mine.place.delete()
    assert mine.renew() and mine.place.exists()


def test_a_directory_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageError, match=r"/file/run: cannot be written: .*status, show and export only read"
    ):
        lease(locate(tmp_path / "file" / "run")).acquire(False, print)


def test_without_proc_nobody_is_known_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = replace(Holder.of_this_process("connote run", 1), kernel="")
    monkeypatch.setattr("engine.lease.holder._kernel", lambda: "")
    assert holder.lives() is None
