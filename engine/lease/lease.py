"""A lease on a directory: taken, renewed, released, and taken over from a holder that is gone.

Object stores have no create-if-absent here, and clocks of machines differ. So:

- Whoever wants the lease writes its claim over what it saw, waits (`settle_s`) and reads back: the
  claim that stands holds. Two that write within that time both read the last one's. A claim that took
  longer to write may have come over one that already stood: it waits until that one's holder has had
  time to find it, which then stops.
- A holder on the same machine is gone when its process is. Any other is watched: it renews its claim
  every `renew_s`, and a file that stays the same for `expiry_s` by the watcher's own clock is free.

A holder that was taken for dead (its machine slept, the store did not answer) and works on finds another's
claim at its next renewal. Until then two may work, which costs time and nothing else: tables are
committed by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.errors import RunHeld, StorageError
from engine.lease.holder import Holder
from engine.lease.watch import Timing, Watch
from engine.storage import Location

#: The lease's name in the directory that it is for.
LEASE = "lease.json"


class Lease:
    """One command's hold, or claim, on a directory.

    Args:
        directory: what it is for; the file lies in it.
        command: what to call this command where others meet its lease.
        timing: by default what suits the filesystem.
        now: seconds of a clock that never goes back.
        sleep: waits so many of them.
    """

    def __init__(
        self,
        directory: Location,
        command: str,
        timing: Timing | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.directory, self.place = directory, directory / LEASE
        self.timing = timing or Timing.of(directory)
        self.holder = Holder.of_this_process(command, self.timing.expiry_s)
        self._now, self._sleep = now, sleep
        self._beats = 0

    def acquire(self, wait: bool, say: Callable[[str], None]) -> None:
        """Take the lease; where another has it, look whether that one is alive.

        Args:
            wait: for one that is alive, instead of leaving.
            say: told whom this waits for.

        Raises:
            RunHeld: another command works here.
            StorageError: the directory cannot be read or written.
        """
        watch, told = Watch(), dict[str, bool]()
        while True:
            begun = self._now()
            seen = self._read()
            if seen is None:
                if self._claim(begun, replace=False):
                    return
                continue
            other = Holder.parse(seen)
            watch.see(seen, self._now())
            alive = other.lives() if other else None
            if alive is False or (alive is None and watch.unchanged(begun) >= _expiry(other)):
                if self._claim(begun, replace=True):
                    gone = "is gone" if alive is False else f"gave no sign for {_expiry(other):g} s"
                    say(f"{other or 'whoever worked here'} {gone}: going on in its place")
                    return
                continue
            self._meet(other, alive or watch.changes > 0, wait, told, say)
            self._sleep(self.timing.poll_s)

    def renew(self) -> bool:
        """Say that the holder lives; False if the lease has become another's.

        Raises:
            StorageError: the store fails; the next time may do.
        """
        seen = self._read()
        if seen is not None and not self._wrote(seen):
            return False
        # If somebody has deleted it, one that comes meanwhile may have taken it: that one stands.
        return self._write(replace=seen is not None)

    def release(self) -> None:
        """Give the lease back, if it still is this command's."""
        if (seen := self._read()) is not None and self._wrote(seen):
            self.place.delete()

    def taken_over(self) -> RunHeld:
        """What to tell the user of a command that lost its lease."""
        seen = self._read()
        other = Holder.parse(seen) if seen else None
        return RunHeld(
            f"{self.directory.uri}: {other or 'another command'} has taken this directory over, since the "
            f"lease was not renewed for {self.timing.expiry_s:g} s (did this machine sleep, or its network "
            "fail?); this one leaves the work to that, and what it finished is kept"
        )

    def _claim(self, begun: float, replace: bool) -> bool:
        """Write a claim over what was seen at `begun`; whether it stands."""
        if self.place.is_local and not replace:
            return self._write(replace=False)  # of several exactly one writes
        self._write(replace=True)
        late = self._now() - begun > self.timing.settle_s
        self._sleep(self.timing.settle_s + (self.timing.renew_s if late else 0))
        stands = self._read()
        return stands is not None and self._wrote(stands)

    def _meet(
        self,
        other: Holder | None,
        alive: bool,
        wait: bool,
        told: dict[str, bool],
        say: Callable[[str], None],
    ) -> None:
        """Leave, or say what this one waits for, once of each holder and again when it proves alive."""
        who = str(other) if other else f"something that this version cannot read ({self.place.uri})"
        if alive and not wait:
            raise RunHeld(
                f"{self.directory.uri}: {who} works on it; let it finish, or stop it and run the same "
                "command again; with --wait this command waits for it"
            )
        key = other.id if other else ""
        if told.get(key) is None or (alive and not told[key]):
            told[key] = alive
            longest = _expiry(other)
            look = f"looking for up to {longest:g} s whether it is alive"
            say(f"{self.directory.uri} is held by {who}: {'waiting for it to end' if alive else look}")

    def _read(self) -> bytes | None:
        try:
            return self.place.read_bytes() if self.place.exists() else None
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None  # it was released in that moment
            raise

    def _write(self, replace: bool) -> bool:
        self._beats += 1
        try:
            return self.place.write_bytes(self.holder.content(self._beats), replace=replace)
        except StorageError as error:
            reason = str(error).removeprefix(f"{self.place.uri}: ")
            raise StorageError(
                f"{self.directory.uri}: cannot be written: {reason}. Name another directory, or mend this; "
                "status, show and export only read"
            ) from error

    def _wrote(self, content: bytes) -> bool:
        other = Holder.parse(content)
        return other is not None and other.id == self.holder.id


def _expiry(other: Holder | None) -> float:
    return other.expires_after_s if other else Timing.expiry_s
