import asyncio

from engine.flow.turns import Turns


def test_parts_share_until_one_wants_the_engine_alone() -> None:
    async def play() -> list[str]:
        turns, log = Turns(), list[str]()

        async def part(name: str, alone: bool, wait: float) -> None:
            await asyncio.sleep(wait)
            async with turns.take(alone):
                log.append(f"{name}+")
                await asyncio.sleep(0.05)
                log.append(f"{name}-")

        await asyncio.gather(
            part("a", False, 0), part("b", False, 0.01), part("x", True, 0.02), part("c", False, 0.03)
        )
        return log

    log = asyncio.run(play())
    assert log[:4] == ["a+", "b+", "a-", "b-"]
    assert log[4:] == ["x+", "x-", "c+", "c-"]


def test_a_cancelled_wait_lets_others_in() -> None:
    async def play() -> None:
        turns = Turns()
        async with turns.take(alone=False):
            waiting = asyncio.create_task(turns.take(alone=True).__aenter__())
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            async with asyncio.timeout(1), turns.take(alone=False):
                pass

    asyncio.run(play())
