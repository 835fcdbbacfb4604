"""Weights are fetched once a node, by a few nodes at once, whoever dies on the way."""

from __future__ import annotations

import asyncio
from collections import Counter

from engine.flow.turnstile import Turnstile


def test_one_fetches_and_the_others_of_its_node_wait() -> None:
    fetched, at_once = asyncio.run(_crowd(Turnstile(), nodes=3, actors=8))
    assert fetched == Counter({"0": 1, "1": 1, "2": 1}) and at_once <= 3


def test_not_all_nodes_at_once() -> None:
    fetched, at_once = asyncio.run(_crowd(Turnstile(nodes=2), nodes=10, actors=3))
    assert set(fetched.values()) == {1} and len(fetched) == 10
    assert at_once == 2


async def _crowd(turnstile: Turnstile, nodes: int, actors: int) -> tuple[Counter[str], int]:
    """How often each node fetched, and how many did at the same time."""
    fetched, running, most = Counter[str](), 0, 0

    async def start(node: str, actor: str) -> None:
        nonlocal running, most
        if await turnstile.enter(node, "weights", actor):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1
            fetched[node] += 1
            await turnstile.leave(node, "weights", actor, True)
        assert fetched[node] == 1, "nobody starts before the weights are there"

    async with asyncio.TaskGroup() as group:
        for node in range(nodes):
            for actor in range(actors):
                group.create_task(start(str(node), f"{node}-{actor}"))
    return fetched, most


def test_two_models_are_fetched_side_by_side() -> None:
    async def both() -> list[bool]:
        turnstile = Turnstile(nodes=1)
        return [await turnstile.enter("n", weights, weights) for weights in ("a", "b")]

    assert asyncio.run(both()) == [True, True], "a node counts once"


def test_an_actor_that_died_gives_its_turn_back_when_it_starts_again() -> None:
    async def elsewhere() -> tuple[bool, bool]:
        turnstile = Turnstile(nodes=1)
        await turnstile.enter("lost", "weights", "a")
        again = await turnstile.enter("other", "weights", "a")
        await turnstile.leave("other", "weights", "a", True)
        return again, await turnstile.enter("lost", "weights", "b")

    assert asyncio.run(asyncio.wait_for(elsewhere(), 5)) == (True, True)


def test_an_actor_that_is_gone_for_good_holds_nobody_up() -> None:
    async def follow() -> bool:
        turnstile = Turnstile(patience_s=0.1)
        await turnstile.enter("n", "weights", "gone")
        return await turnstile.enter("n", "weights", "next")

    assert asyncio.run(asyncio.wait_for(follow(), 5)) is True


def test_what_could_not_be_fetched_the_next_one_tries() -> None:
    async def twice() -> list[bool]:
        turnstile = Turnstile()
        first = await turnstile.enter("n", "weights", "a")
        second = asyncio.ensure_future(turnstile.enter("n", "weights", "b"))
        await asyncio.sleep(0)
        await turnstile.leave("n", "weights", "a", False)
        return [first, await second]

    assert asyncio.run(asyncio.wait_for(twice(), 5)) == [True, True]
