"""What is known of engines that died: which parts were there, and which row is to blame."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

#: A part that had an engine alone each of so many times when it died, and no row of which could
#: be blamed, is given up.
MAX_DEATHS = 3
#: A part in which more rows than this kill engines is given up, too: each costs two engines.
MAX_CONVICTED = 3


@dataclass(frozen=True)
class Verdict:
    """What is known of a part when it begins.

    Attributes:
        deaths: how often it was at an engine that died, since a row of it was last convicted.
        reason: why the last engine died, as far as its actor could tell.
        outage: parts given up in a row of deaths so long that the engines are to blame, not the
            parts; None as long as it is not.
        suspects: rows of which one was at the engine when it last died.
        convicted: rows that were at an engine by themselves when it died.
    """

    deaths: int
    reason: str
    outage: tuple[str, ...] | None = None
    suspects: tuple[int, ...] = ()
    convicted: tuple[int, ...] = ()

    @property
    def given_up(self) -> bool:
        """Whether the part is not tried any more: one part must not keep the run from ending."""
        return self.deaths >= MAX_DEATHS or len(self.convicted) > MAX_CONVICTED


class Deaths:
    """The session's memory of engines that died; an actor of its own.

    A driver that is killed and started again counts afresh, so it blames no part.
    """

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._at_engine: dict[str, tuple[int, ...]] = {}
        self._suspects: dict[str, tuple[int, ...]] = {}
        self._convicted: dict[str, tuple[int, ...]] = {}
        self._reason = "its process was killed"
        self._in_a_row = 0
        self._given_up: list[str] = []
        self._started = False

    def begin(self, part: str, alone: bool) -> Verdict:
        """Note that the part begins, and say how often it did so without coming to its end.

        A part that did so before does not begin unless it is `alone`: parts that were merely
        there when another one killed the engine wait for their turn without being blamed again.
        """
        if alone:
            self._judge(part)
            self._in_a_row += 1
        deaths = self._begun[part]
        if alone or not deaths:
            self._begun[part] += 1
        outage = tuple(self._given_up) if self._in_a_row > 2 * MAX_DEATHS else None
        suspects, convicted = self._suspects.get(part, ()), self._convicted.get(part, ())
        return Verdict(deaths, self._reason, outage, suspects, convicted)

    def at_engine(self, part: str, rows: Sequence[int]) -> None:
        """Note which rows of a part that is alone go to the engine now; those before came back."""
        if part in self._at_engine:
            self._engines_work()
        self._at_engine[part] = tuple(rows)

    def end(self, part: str, came_through: bool) -> None:
        """Note that the part is done with: by an engine, or by giving up what it was asked."""
        for memory in (self._begun, self._at_engine, self._suspects, self._convicted):
            memory.pop(part, None)
        if came_through:
            self._engines_work()
        else:
            self._given_up.append(part)

    def died(self, reason: str) -> None:
        """Note why an engine died, before its actor leaves."""
        self._reason = reason

    def started(self) -> None:
        """Note that an engine started: from now on one that fails to start is a dead one."""
        self._started = True

    def has_started(self) -> bool:
        """Whether an engine of this session ever started."""
        return self._started

    def _judge(self, part: str) -> None:
        """Learn from what was at the engine when it died on this part."""
        rows = self._at_engine.pop(part, ())
        self._suspects[part] = rows if len(rows) > 1 else ()
        if len(rows) == 1:
            self._convicted[part] = (*self._convicted.get(part, ()), *rows)
            self._begun[part] = 1

    def _engines_work(self) -> None:
        self._in_a_row, self._given_up = 0, []


def slices(rows: Sequence[int], suspects: Collection[int]) -> list[list[int]]:
    """The rows in the order and company in which a part that killed an engine shows them.

    Suspects go first and one by one, the others in slices of the square root of their number: so
    the second death finds the slice and the third the row, in few calls either way.
    """
    alone = [[row] for row in rows if row in suspects]
    others = [row for row in rows if row not in suspects]
    size = math.isqrt(max(len(others) - 1, 0)) + 1
    return alone + [others[start : start + size] for start in range(0, len(others), size)]
