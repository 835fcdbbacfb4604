"""How often a lease is renewed and looked at, and how long it has stayed the same."""

from __future__ import annotations

from dataclasses import dataclass

from engine.storage import Location


@dataclass(frozen=True)
class Timing:
    """Seconds.

    Attributes:
        expiry_s: without a renewal for so long, a lease is free.
        renew_s: from one renewal to the next.
        settle_s: from writing a claim to reading it back.
        poll_s: between two looks at another's lease.
    """

    expiry_s: float = 45
    renew_s: float = 10
    settle_s: float = 2
    poll_s: float = 2

    @classmethod
    def of(cls, place: Location) -> Timing:
        """What suits a file there: local ones are written and seen at once."""
        return cls(settle_s=0.2, poll_s=0.25) if place.is_local else cls()


class Watch:
    """How long a file has stayed the same, by the watcher's clock."""

    def __init__(self) -> None:
        self.changes = -1  # the first look is none
        self._content: bytes | None = None
        self._since = 0.0

    def see(self, content: bytes, now: float) -> None:
        """Note what was read by `now`."""
        if content != self._content:
            self._content, self._since = content, now
            self.changes += 1

    def unchanged(self, now: float) -> float:
        """Seconds, at least, for which it has been the same when a look began at `now`."""
        return now - self._since
