"""Turns at an engine: most parts share it; a part that saw it die before has it alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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
