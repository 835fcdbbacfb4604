"""Two machines on one: each with its own network, processes, host name and /tmp/ray.

What is started on one finds neither the other's Ray nor this machine's, except through the cable between
them: so the commands in cluster/ run as they stand, `ray stop` and fixed ports included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

#: Ray finds its own address by asking which one leads outside: by way of the other machine, here.
ADDRESSES = ("10.87.0.1", "10.87.0.2")
_TOOLS = ("unshare", "nsenter", "ip")


@dataclass(frozen=True)
class Node:
    """A machine; `pid` is its first process, as this machine counts."""

    name: str
    address: str
    pid: int

    def start(
        self, command: list[str], log: Path, cwd: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a command there; what it prints goes to `log`."""
        # Whoever enters a machine's mounts stands in its root.
        inside = ["nsenter", "--target", str(self.pid), "--net", "--pid", "--mount", "--uts", "--"]
        inside += ["env", f"--chdir={cwd}"]
        with log.open("ab") as sink:
            return subprocess.Popen(
                [*inside, *command],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**_without_ray(), **environment},
            )

    def finish(self, command: list[str], log: Path, cwd: Path, environment: Mapping[str, str]) -> int:
        """Run a command there to its end; its exit status."""
        return self.start(command, log, cwd, environment).wait(300)


@contextmanager
def two_nodes(directory: Path, private: Path) -> Iterator[tuple[Node, Node]]:
    """Two machines with a cable between them; each has a `private` directory of its own, such as /tmp/ray."""
    if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
        pytest.skip(f"{', '.join(missing)} not installed, so no second machine can be made on this one")
    if subprocess.run(
        ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "true"], check=False
    ).returncode:
        pytest.skip("this user may make no namespaces, so no second machine can be made on this one")
    private.mkdir(parents=True, exist_ok=True)
    holders = [_hold(directory, private, name) for name in ("one", "two")]
    try:
        first, second = (psutil.Process(holder.pid).children()[0].pid for holder in holders)
        ends = [f"cn{os.getpid() % 100000}{end}" for end in "ab"]
        _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for end, pid, mine, other in zip(ends, (first, second), ADDRESSES, ADDRESSES[::-1], strict=True):
            _ip("link", "set", end, "netns", str(pid))
            inside = ["nsenter", "--target", str(pid), "--net"]
            for command in (
                f"addr add {mine}/24 dev {end}",
                f"link set {end} up",
                f"route add default via {other}",
            ):
                subprocess.run([*inside, "ip", *command.split()], check=True)
        yield Node("one", ADDRESSES[0], first), Node("two", ADDRESSES[1], second)
    finally:
        for holder in holders:
            holder.kill()  # and with the first process of a machine all others of it
            holder.wait()


def _hold(directory: Path, private: Path, name: str) -> subprocess.Popen[bytes]:
    """A machine without a network, which lives as long as this process."""
    ready = directory / f"{name}.ready"
    steps = [f"hostname {name}", "ip link set lo up", f"mount -t tmpfs tmpfs {private}", f"touch {ready}"]
    script = "; ".join([*steps, "exec sleep infinity"])
    flags = ["--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "--kill-child"]
    holder = subprocess.Popen(["unshare", *flags, "--", "sh", "-ec", script])
    end = time.monotonic() + 60
    while not ready.exists():
        assert holder.poll() is None and time.monotonic() < end, f"machine {name} did not start"
        time.sleep(0.02)
    return holder


def _without_ray() -> dict[str, str]:
    """The environment, without what leads to a Ray of who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
