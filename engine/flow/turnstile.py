"""Who fetches weights: one actor of each node, the others wait for it; and not all nodes at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field

#: Nodes that fetch at the same time: a store that serves eight at full speed is spared the hundred
#: that start with a run.
NODES = 8
#: Seconds after which an actor that fetches is thought to be gone; what it left, the next one goes on with.
PATIENCE_S = 900.0


@dataclass
class _Turn:
    actor: str
    until: float


@dataclass
class Turnstile:
    """An actor of its own. `enter`, fetch if it says so, `leave`.

    It saves work and spares the store, no more: the libraries' own locks keep two that fetch the same
    apart, so a turn that is given too early does no harm.

    Attributes:
        nodes: that may fetch at the same time.
        patience_s: for an actor that fetches.
    """

    nodes: int = NODES
    patience_s: float = PATIENCE_S
    _turns: dict[tuple[str, Hashable], _Turn] = field(default_factory=dict)
    _there: set[tuple[str, Hashable]] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def enter(self, node: str, weights: Hashable, actor: str) -> bool:
        """Wait for one's turn; whether to fetch: False where another actor of the node has.

        Args:
            node: on which the actor is.
            weights: that it needs.
            actor: the same after a restart, so that what it held before it died is free.
        """
        place = (node, weights)
        async with self._changed:
            self._drop(actor)
            while place not in self._there:
                if self._free(place):
                    self._turns[place] = _Turn(actor, time.monotonic() + self.patience_s)
                    return True
                await self._wait()
            return False

    async def leave(self, node: str, weights: Hashable, actor: str, there: bool) -> None:
        """Give the turn back, and say whether the weights are on the node now; if not, the next one tries."""
        async with self._changed:
            if there:
                self._there.add((node, weights))
            self._drop(actor)

    def _free(self, place: tuple[str, Hashable]) -> bool:
        now = time.monotonic()
        self._turns = {place: turn for place, turn in self._turns.items() if turn.until > now}
        return place not in self._turns and len({node for node, _ in self._turns} - {place[0]}) < self.nodes

    def _drop(self, actor: str) -> None:
        self._turns = {place: turn for place, turn in self._turns.items() if turn.actor != actor}
        self._changed.notify_all()

    async def _wait(self) -> None:
        """Until somebody leaves, or the longest turn is over."""
        first = min((turn.until for turn in self._turns.values()), default=time.monotonic())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), max(0.0, first - time.monotonic()) + 0.01)
