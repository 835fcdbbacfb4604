import asyncio

from engine.flow.turns import MAX_DEATHS, Deaths, Turns


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


def test_only_a_part_that_begins_alone_is_blamed_again() -> None:
    deaths = Deaths()
    assert deaths.begin("a", alone=False).deaths == 0
    # The engine dies: both parts that were there come again.
    assert deaths.begin("a", alone=False).deaths == 1
    assert deaths.begin("a", alone=False).deaths == 1
    assert deaths.begin("a", alone=True).deaths == 1
    assert deaths.begin("a", alone=True).deaths == 2
    deaths.end("a", came_through=True)
    assert deaths.begin("a", alone=False).deaths == 0


def test_deaths_in_a_row_over_several_parts_are_an_outage() -> None:
    deaths = Deaths()
    deaths.died("no server at that address")
    verdicts = []
    for part in ("a", "b", "c"):
        deaths.begin(part, alone=False)
        for _ in range(MAX_DEATHS):
            verdicts.append(deaths.begin(part, alone=True))
        deaths.end(part, came_through=False)
    assert [verdict.outage for verdict in verdicts[: 2 * MAX_DEATHS]] == [None] * 2 * MAX_DEATHS
    assert verdicts[2 * MAX_DEATHS].outage == ("a", "b")
    assert verdicts[-1].reason == "no server at that address"


def test_a_part_that_comes_through_ends_the_row() -> None:
    deaths = Deaths()
    for index in range(4 * MAX_DEATHS):
        deaths.begin(f"{index}", alone=False)
        assert deaths.begin(f"{index}", alone=True).outage is None
        deaths.end(f"{index}", came_through=True)
