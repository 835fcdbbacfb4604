"""Simulated machines that share a store: everything takes time, and one thing happens at a time."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from engine.errors import RunHeld, StorageError
from engine.lease import Lease, Timing
from engine.storage import Location

REMOTE = Location("s3://simulated/run")
TIMING = Timing(expiry_s=45, renew_s=10, settle_s=2, poll_s=2)


class Died(BaseException):
    """The machine went out."""


class World:
    """Simulated time. Each actor runs in a thread, but only one at a time, in the order of their waking."""

    def __init__(self) -> None:
        self.time = 0.0
        self.files: dict[str, bytes] = {}
        self._queue: list[tuple[float, int, threading.Event]] = []
        self._count = 0
        self._parked = threading.Event()
        self._errors: list[BaseException] = []

    def spawn(self, work: Callable[[], None], at: float) -> None:
        event = self._wake_at(at)

        def body() -> None:
            event.wait()
            try:
                work()
            except BaseException as error:
                self._errors.append(error)
            finally:
                self._parked.set()

        threading.Thread(target=body, daemon=True).start()

    def sleep(self, seconds: float) -> None:
        """Called by an actor: others run meanwhile."""
        event = self._wake_at(self.time + seconds)
        self._parked.set()
        event.wait()

    def run(self) -> None:
        """Until no actor is left."""
        while self._queue:
            self.time, _, event = heapq.heappop(self._queue)
            self._parked.clear()
            event.set()
            assert self._parked.wait(30)
            if self._errors:
                raise self._errors[0]

    def _wake_at(self, time: float) -> threading.Event:
        event = threading.Event()
        self._count += 1
        heapq.heappush(self._queue, (time, self._count, event))
        return event


@dataclass(frozen=True)
class SlowFile:
    """A file of a store: each request takes effect in the midst of its time."""

    world: World
    uri: str
    takes: Callable[[], float]
    is_local: bool = False

    def exists(self) -> bool:
        return self._in_its_time(lambda: self.uri in self.world.files)

    def read_bytes(self) -> bytes:
        def read() -> bytes:
            if self.uri not in self.world.files:
                raise StorageError(f"{self.uri}: does not exist; check the path") from FileNotFoundError()
            return self.world.files[self.uri]

        return self._in_its_time(read)

    def write_bytes(self, data: bytes, replace: bool = True) -> bool:
        if not replace and self.exists():
            return False
        self._in_its_time(lambda: self.world.files.update({self.uri: data}))
        return True

    def delete(self) -> None:
        self._in_its_time(lambda: self.world.files.pop(self.uri, None))

    def _in_its_time(self, act: Callable[[], Any]) -> Any:
        seconds = self.takes()
        self.world.sleep(seconds / 2)
        result = act()
        self.world.sleep(seconds / 2)
        return result


def lease_of(world: World, machine: str, takes: Callable[[], float] = lambda: 0.1) -> Lease:
    """A command's lease as on a machine of its own."""
    lease = Lease(REMOTE, "connote run", TIMING, now=lambda: world.time, sleep=world.sleep)
    lease.holder = replace(lease.holder, host=machine, kernel=machine)
    lease.place = SlowFile(world, lease.place.uri, takes)  # type: ignore[assignment]
    return lease


@dataclass
class Command:
    """A command that works for some time under its lease, as `held` has it."""

    world: World
    lease: Lease
    works: float
    wait: bool = False
    said: list[str] = field(default_factory=list)
    began: float | None = None
    ended: float | None = None
    outcome: str = ""

    def __call__(self) -> None:
        try:
            self.lease.acquire(self.wait, self.said.append)
        except RunHeld as error:
            self.outcome = f"left: {error}"
            return
        self.began = self.world.time
        while self.world.time < self.began + self.works:
            self.world.sleep(TIMING.renew_s)
            if not self.lease.renew():
                self.ended, self.outcome = self.world.time, "lost"
                return
        self.ended, self.outcome = self.world.time, "done"
        self.lease.release()
