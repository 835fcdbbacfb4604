"""Keep many requests in flight, started in order and never more than there is room for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from engine.generation.protocol import Request, Response

Answer = Callable[[Request], Awaitable[Response]]


@dataclass
class _Waiting:
    """A request on its way: `result` is what its call waits for, `task` is there once it runs."""

    request: Request
    answer: Answer
    result: asyncio.Future[Response] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    task: asyncio.Task[Response] | None = None


class Window:
    """Room for `size` requests at a time, shared by all calls of one generator.

    First come, first served, call by call: calls that took turns would all end at the same time,
    and leave the engine idle until the next ones come.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._queue: deque[_Waiting] = deque()

    async def run(self, requests: Sequence[Request], answer: Answer) -> list[Response]:
        """Answer every request; they start in order, and the responses are in order.

        The first exception of an answer is raised. Then, as when the caller is cancelled, no
        request is left running: what a generator still computed would be lost, and delay others.
        """
        mine = [_Waiting(request, answer) for request in requests]
        self._queue.extend(mine)
        self._start()
        try:
            return await asyncio.gather(*(each.result for each in mine))
        finally:
            running = [each.task for each in mine if each.task is not None and not each.task.done()]
            for each in mine:
                each.result.cancel()  # those that wait are passed over
            for task in running:
                task.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)

    def _start(self) -> None:
        """Start requests as long as there is room."""
        while self._free and self._queue:
            each = self._queue.popleft()
            if not each.result.done():
                self._free -= 1
                each.task = asyncio.ensure_future(each.answer(each.request))
                each.task.add_done_callback(partial(self._finish, each))

    def _finish(self, each: _Waiting, task: asyncio.Task[Response]) -> None:
        self._free += 1
        if not each.result.done():
            if task.cancelled():
                each.result.cancel()
            elif error := task.exception():
                each.result.set_exception(error)
            else:
                each.result.set_result(task.result())
        elif not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as never retrieved
        self._start()
