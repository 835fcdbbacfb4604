"""Keep many requests in flight, started in order and never more than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from engine.generation.protocol import Request, Response

Answer = Callable[[Request], Awaitable[Response]]


class Window:
    """Room for `size` requests at a time, shared by all calls of one generator."""

    def __init__(self, size: int) -> None:
        self._room = asyncio.Semaphore(size)

    async def run(self, requests: Sequence[Request], answer: Answer) -> list[Response]:
        """Answer every request; they start in order, and the responses are in order.

        The first exception of an answer is raised. Then, as when the caller is cancelled, no
        request is left running: what a generator still computed would be lost, and delay others.
        """
        tasks: list[asyncio.Task[Response]] = []
        failed = asyncio.Event()

        def finish(task: asyncio.Task[Response]) -> None:
            self._room.release()
            if task.cancelled() or task.exception() is not None:
                failed.set()

        try:
            for request in requests:
                await self._room.acquire()
                if failed.is_set():
                    self._room.release()
                    break
                task = asyncio.ensure_future(answer(request))
                task.add_done_callback(finish)
                tasks.append(task)
            return await asyncio.gather(*tasks)
        finally:
            running = [task for task in tasks if not task.done()]
            for task in running:
                task.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)
