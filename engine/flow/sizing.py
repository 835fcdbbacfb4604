"""The pools of a run on the cluster that is there: how many actors each has, and room for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ray._private.state import available_resources_per_node
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from engine.errors import RecipeError
from engine.flow.capacity import bundle, live_nodes
from engine.flow.pools import Pool
from engine.planning.placing import Demand, Node, place

#: Seconds without a change after which nothing more is given back, and seconds until it is not waited for.
_SETTLE_S, _SETTLED_S = 20.0, 60.0
#: Seconds for a reservation that there is room for.
_ROOM_S = 30.0
_LOOK_S = 0.5
#: Seconds between two looks for what others hold.
_HELD_S = 10.0


def sized(
    pools: Sequence[Pool], beside: Demand, shared: str, wait: bool, say: Callable[[str], None]
) -> list[Pool]:
    """The pools with as many actors as the recipe says, or where it says `auto` as find room now.

    Args:
        pools: in order.
        beside: what tasks beside them reserve.
        shared: how those that are `auto` share the cluster, in words.
        wait: for room that others hold.
        say: told what became of `auto`, and what is waited for.

    Raises:
        RecipeError: others hold so much that a pool that is `auto` cannot begin, and it is not waited for.
    """
    if not any(pool.settings.actors.auto for pool in pools):
        return list(pools)
    made = [pool.of_size(count) for pool, count in zip(pools, _counts(pools, beside, wait, say), strict=True)]
    auto = [pool for pool in made if pool.settings.actors.auto]
    numbers = ", ".join(f"{pool.actors} of {pool.name}" for pool in auto)
    say(f"actors     {numbers}" + (f" ({shared})" if len(auto) > 1 else ""))
    return made


def _counts(pools: Sequence[Pool], beside: Demand, wait: bool, say: Callable[[str], None]) -> list[int]:
    wanted, told = [*(pool.demand for pool in pools), beside], ""
    while True:
        counts = place(_free(say), wanted)
        short = [(n, pool) for n, pool in zip(counts, wanted, strict=True) if n < pool.least]
        if not short:
            return counts[:-1]
        what = ", ".join(f"{n} of at least {pool.least} actors of {pool.name}" for n, pool in short)
        if not wait:
            raise RecipeError(
                f"there is room for {what} now, others hold the rest (`ray status`); give the pools less, or "
                "wait with --wait"
            )
        if what != told:
            say(f"waiting for room: for {what} there is some, others hold the rest")
            told = what
        time.sleep(_HELD_S)


def _free(say: Callable[[str], None]) -> list[Node]:
    """What each node has left, once nothing more is given back.

    Reservations go one by one when a driver was killed, and those of the catalog's tasks a while after
    them; what is held for longer belongs to others. Ray tells the sum of a node's shares of GPUs, so of
    those that others hold in shares there may be less than it seems.
    """
    begun = since = time.monotonic()
    before: dict[str, Node] | None = None
    while True:
        whole, free = live_nodes(), available_resources_per_node()
        left = {name: _left(node, free.get(name, {})) for name, node in whole.items()}
        now = time.monotonic()
        if left != before:
            before, since = left, now
        if left == whole or now - since > _SETTLE_S or now - begun > _SETTLED_S:
            return list(left.values())
        if now - begun < _LOOK_S:
            say("others hold a part of the cluster: waiting a moment for what they give back")
        time.sleep(_LOOK_S)


def _left(node: Node, left: Mapping[str, float]) -> Node:
    return replace(node, cpus=left.get("CPU", 0), gpus=left.get("GPU", 0))


@contextmanager
def whole_nodes(
    pools: Sequence[Pool], wait: bool, say: Callable[[str], None]
) -> Iterator[dict[str, PlacementGroup]]:
    """Reserve for engines of several GPUs what they need, the largest first; by the pools' names.

    Left to themselves, actors with one GPU spread over the nodes, and an engine of eight finds none that
    has eight left. A lost node's share is reserved anew by Ray, where there is room. Pools that grow
    find room by themselves, and so do actors with one GPU or a share of one: what Ray places as a
    group is counted by the node, not by the GPU.

    Raises:
        RecipeError: others hold what is needed, and it is not waited for.
    """
    groups: dict[str, PlacementGroup] = {}
    try:
        for pool in sorted(pools, key=lambda pool: -pool.settings.gpus):
            if pool.settings.gpus > 1 and pool.actors == pool.most:
                group = placement_group([bundle(pool.demand)] * pool.actors)
                groups[pool.name] = group
                if not group.wait(_ROOM_S) and not _follows(pool, group, wait, say):
                    remove_placement_group(groups.pop(pool.name))
        yield groups
    finally:
        for group in groups.values():
            remove_placement_group(group)


def _follows(pool: Pool, group: PlacementGroup, wait: bool, say: Callable[[str], None]) -> bool:
    """Whether a group comes to be after all; False where its actors had better look for room one by one."""
    found = place(_free(say), [replace(pool.demand, least=pool.actors, most=pool.actors)])[0]
    if found == pool.actors or pool.settings.actors.auto:
        return False
    held = f"{pool.name}: there is room for {found} of its {pool.actors} actors now, others hold the rest"
    if not wait:
        raise RecipeError(f"{held} (`ray status`); lower `actors`, make it `auto`, or wait with --wait")
    say(f"waiting for room: {held}")
    while not group.wait(60):
        pass
    return True
