"""Turns at an engine: most parts share it; a part that saw it die before has it alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

#: A part that was there each of so many times when its engine died is given up: one image that
#: kills engines must not keep the run from ending.
MAX_DEATHS = 3


class Turns:
    """A lock that many may share or one may have alone; who wants it alone is not passed over."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._sharing = 0
        self._waiting_alone = 0
        self._alone = False

    @asynccontextmanager
    async def take(self, alone: bool) -> AsyncIterator[None]:
        """Hold the engine, with others or alone."""
        async with self._changed:
            self._waiting_alone += alone
            try:
                await self._changed.wait_for(lambda: self._free(alone))
            finally:
                self._waiting_alone -= alone
            self._alone, self._sharing = alone, self._sharing + 1
        try:
            yield
        finally:
            async with self._changed:
                self._alone, self._sharing = False, self._sharing - 1
                self._changed.notify_all()

    def _free(self, alone: bool) -> bool:
        if alone:
            return self._sharing == 0
        return not self._alone and self._waiting_alone == 0


@dataclass(frozen=True)
class Verdict:
    """What is known of a part when it begins.

    Attributes:
        deaths: how often it was at an engine that died.
        reason: why the last engine died, as far as its actor could tell.
        outage: parts given up in a row of deaths so long that the engines are to blame, not the
            parts; None as long as it is not.
    """

    deaths: int
    reason: str
    outage: tuple[str, ...] | None = None


class Deaths:
    """The session's memory of engines that died; an actor of its own.

    A driver that is killed and started again counts afresh, so it blames no part.
    """

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._reason = "its process was killed"
        self._in_a_row = 0
        self._given_up: list[str] = []
        self._started = False

    def begin(self, part: str, alone: bool) -> Verdict:
        """Note that the part begins, and say how often it did so without coming to its end.

        A part that did so before does not begin unless it is `alone`: parts that were merely
        there when another one killed the engine wait for their turn without being blamed again.
        """
        deaths = self._begun[part]
        if alone or not deaths:
            self._begun[part] += 1
        if alone:
            self._in_a_row += 1
            if deaths >= MAX_DEATHS:
                self._given_up.append(part)
        outage = tuple(self._given_up) if self._in_a_row > 2 * MAX_DEATHS else None
        return Verdict(deaths, self._reason, outage)

    def end(self, part: str, came_through: bool) -> None:
        """Note that the part is done with, by an engine or by being given up."""
        self._begun.pop(part, None)
        if came_through:
            self._in_a_row, self._given_up = 0, []

    def died(self, reason: str) -> None:
        """Note why an engine died, before its actor leaves."""
        self._reason = reason

    def started(self) -> None:
        """Note that an engine started: from now on one that fails to start is a dead one."""
        self._started = True

    def has_started(self) -> bool:
        """Whether an engine of this session ever started."""
        return self._started
