import asyncio

import pytest

from engine.generation.protocol import Request, Response
from engine.generation.window import Window
from engine.recipe import Sampling


def requests(name: str, count: int) -> list[Request]:
    return [Request(name, (f"{name}{n}",), Sampling(), seed=n) for n in range(count)]


def test_calls_end_one_after_the_other() -> None:
    """So that one of two parts is committed and replaced while the other keeps the engine full."""
    started: list[str] = []
    ended: list[str] = []

    async def play() -> None:
        window = Window(4)

        async def answer(request: Request) -> Response:
            started.append(request.task)
            await asyncio.sleep(0.005)
            return Response(str(request.content[0]))

        async def call(name: str) -> None:
            found = await window.run(requests(name, 20), answer)
            assert [each.text for each in found] == [f"{name}{n}" for n in range(20)]
            ended.append(name)

        await asyncio.gather(*(call(name) for name in "abc"))

    asyncio.run(play())
    assert ended == ["a", "b", "c"]
    assert started[:20] == ["a"] * 20 and started[-19:] == ["c"] * 19, "later calls take what is left"


def test_room_is_never_exceeded_nor_lost() -> None:
    async def play() -> tuple[int, int]:
        window, busy, busiest = Window(5), 0, 0

        async def answer(request: Request) -> Response:
            nonlocal busy, busiest
            busy += 1
            busiest = max(busiest, busy)
            try:
                await asyncio.sleep(0.002)
                if request.task == "bad" and request.seed == 7:
                    raise ValueError("no")
                return Response("yes")
            finally:
                busy -= 1

        calls = [asyncio.create_task(window.run(requests("good", 30), answer)) for _ in range(4)]
        bad = asyncio.create_task(window.run(requests("bad", 30), answer))
        late = asyncio.create_task(window.run(requests("late", 30), answer))
        await asyncio.sleep(0.01)
        calls[1].cancel()
        late.cancel()
        done = await asyncio.gather(*calls, bad, late, return_exceptions=True)
        assert [type(each) for each in done] == [
            list,
            asyncio.CancelledError,
            list,
            list,
            ValueError,
            asyncio.CancelledError,
        ]
        # All room is back: as many as before run at once, and no more.
        before, busiest = busiest, 0
        await window.run(requests("good", 20), answer)
        return before, busiest

    assert asyncio.run(play()) == (5, 5)


def test_a_cancellation_that_comes_with_the_room_passes_it_on() -> None:
    async def play() -> None:
        window = Window(1)
        gate = asyncio.Event()

        async def answer(request: Request) -> Response:
            await gate.wait()
            return Response("yes")

        first = asyncio.create_task(window.run(requests("a", 1), answer))
        waiting = asyncio.create_task(window.run(requests("b", 1), answer))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.set()
        await first
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(1):
            assert len(await window.run(requests("c", 3), answer)) == 3

    asyncio.run(play())
