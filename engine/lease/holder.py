"""Who holds a lease: a process of a machine, and whether one can tell that it is gone."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Holder:
    """A process that works on a directory, or once did.

    Attributes:
        id: random; no two commands have the same, also in one process.
        command: what it was started as.
        host: its machine's name, for people.
        kernel: boot and process namespace; empty where there is no /proc. Processes that have host
            and kernel in common see each other's numbers.
        pid: its number there.
        started: when it started, in clock ticks since boot: numbers are given again, this is not.
        since: when it took the lease by its own clock, for people.
        expires_after_s: a lease that was not renewed for so long is free.
    """

    id: str
    command: str
    host: str
    kernel: str
    pid: int
    started: str
    since: str
    expires_after_s: float

    @classmethod
    def of_this_process(cls, command: str, expires_after_s: float) -> Holder:
        """This process, with an id that nobody had before."""
        return cls(
            id=uuid.uuid4().hex,
            command=command,
            host=socket.gethostname(),
            kernel=_kernel(),
            pid=os.getpid(),
            started=_started(os.getpid()) or "",
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            expires_after_s=expires_after_s,
        )

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Who wrote a lease; None if this is not one that this version writes."""
        try:
            given: dict[str, Any] = json.loads(content)
            holder = cls(**{field.name: given[field.name] for field in fields(cls)})
            return holder if holder.expires_after_s > 0 else None
        except (ValueError, KeyError, TypeError):
            return None

    def content(self, beats: int) -> bytes:
        """The lease as it is written for the `beats`-th time: another content at each."""
        return json.dumps({**asdict(self), "renewed": beats}, indent=1).encode()

    def lives(self) -> bool | None:
        """Whether the process is there; None if that cannot be told from here."""
        if not self.kernel or (self.host, self.kernel) != (socket.gethostname(), _kernel()):
            return None
        return _started(self.pid) == self.started

    def __str__(self) -> str:
        since = self.since.replace("T", " ").replace("+00:00", " UTC")
        return f"`{self.command}` (process {self.pid} on {self.host}, since {since})"


def _kernel() -> str:
    """What two processes have in common if each can look up the other's number."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Clock ticks from the boot to the start of a process; None if there is none, or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets, with whatever brackets and blanks it has.
    rest = stat.rpartition(")")[2].split()
    state, started = rest[0], rest[19]
    return None if state in "ZX" else started  # a zombie only waits for its parent to notice
