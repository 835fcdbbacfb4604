"""What is known of engines that died: which parts were there, and which row is to blame."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

#: So many deaths of engines that had answered something, on the rows of one part but of none in
#: particular, give the part up; so many deaths of engines that had answered nothing yet, each
#: time the same part came to one, stop the run.
MAX_DEATHS = 3
#: A part in which more rows than this kill engines is given up, too: each costs two engines.
MAX_CONVICTED = 3
#: What is at the engine while it starts and answers its first, harmless request.
PROBE: tuple[int, ...] = ()


@dataclass
class Case:
    """What is known of a part that an engine died on.

    Attributes:
        deaths: of engines on its rows, since one of them was last convicted.
        probe_deaths: of engines that the part came to before they answered anything, in a row.
        at_engine: rows that were at the engine last, or `PROBE`; None before the part was alone.
        suspects: rows of which one was at the engine when it last died.
        convicted: rows that were at an engine by themselves when it died.
    """

    deaths: int = 0
    probe_deaths: int = 0
    at_engine: tuple[int, ...] | None = None
    suspects: tuple[int, ...] = ()
    convicted: tuple[int, ...] = ()

    @property
    def outage(self) -> bool:
        """Whether it is not the part that kills the engines."""
        return self.probe_deaths >= MAX_DEATHS

    @property
    def given_up(self) -> bool:
        """Whether the part is not tried any more: one part must not keep the run from ending."""
        return self.deaths >= MAX_DEATHS or len(self.convicted) > MAX_CONVICTED

    def judge(self) -> None:
        """Learn from what was at the engine when it died."""
        rows, self.at_engine = self.at_engine, PROBE
        if rows is None:
            return
        if rows == PROBE:
            self.probe_deaths += 1
            return
        self.deaths += 1
        self.suspects = rows if len(rows) > 1 else ()
        if len(rows) == 1:
            self.convicted, self.deaths = (*self.convicted, *rows), 0


class Deaths:
    """The session's memory of engines that died; an actor of its own.

    It is told what goes to an engine before it goes there, so that whoever comes after a death,
    in whichever actor, knows what was there. A driver that is killed and started again begins
    with no memory, so it blames no part.
    """

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._cases: dict[str, Case] = {}
        self._reasons: dict[str, str] = {}
        self._started: set[str] = set()

    def begin(self, part: str) -> bool:
        """Note that a part begins beside others; False if it did so before and must be alone.

        Parts that were merely there when another one killed the engine are not blamed for that.
        """
        first = part not in self._open
        self._open.add(part)
        return first

    def begin_alone(self, part: str) -> Case:
        """Note that a part has an engine alone, and judge what it did to the one before."""
        case = self._cases.setdefault(part, Case())
        case.judge()
        return case

    def at_engine(self, part: str, rows: Sequence[int]) -> None:
        """Note what of a part that is alone goes to the engine now; what went before came back."""
        case = self._cases[part]
        if rows:
            case.probe_deaths = 0
        case.at_engine = tuple(rows)

    def end(self, part: str) -> None:
        """Note that the part is done with."""
        self._open.discard(part)
        self._cases.pop(part, None)

    def died(self, engine: str, reason: str) -> None:
        """Note why an engine (by its place in the recipe) died, before its actor leaves."""
        self._reasons[engine] = reason

    def reason(self, engine: str) -> str:
        """Why an engine of this kind died last, as far as its actor could tell."""
        return self._reasons.get(engine, "its process was killed")

    def started(self, engine: str) -> None:
        """Note that an engine started: from now on one that fails to start is a dead one."""
        self._started.add(engine)

    def has_started(self, engine: str) -> bool:
        """Whether an engine of this kind ever started in this session."""
        return engine in self._started


def slices(rows: Sequence[int], suspects: Collection[int]) -> list[list[int]]:
    """The rows in the order and company in which a part that killed an engine shows them.

    Suspects go first and one by one, the others in slices of the square root of their number: so
    one death finds the slice and the next one the row, in few calls either way.
    """
    alone = [[row] for row in rows if row in suspects]
    others = [row for row in rows if row not in suspects]
    size = math.isqrt(max(len(others) - 1, 0)) + 1
    return alone + [others[start : start + size] for start in range(0, len(others), size)]
