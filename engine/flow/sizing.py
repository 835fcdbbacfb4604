"""The pools of a run on the cluster that is there: how many actors each has, and room for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ray._private.state import available_resources_per_node, state
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from engine.errors import RecipeError
from engine.flow.capacity import bundle, live_nodes
from engine.flow.pools import Pool
from engine.planning.placing import Demand, Node, place

#: Seconds without a change after which nothing more is given back.
_SETTLE_S = 20.0
#: Seconds for room that the cluster has but others may hold.
_ROOM_S = 30.0
_LOOK_S = 0.5


def sized(pools: Sequence[Pool], beside: Demand, shared: str, say: Callable[[str], None]) -> list[Pool]:
    """The pools with as many actors as the recipe says, or where it says `auto` as find room now.

    Args:
        pools: in order.
        beside: what tasks beside them reserve.
        shared: how those that are `auto` share the cluster, in words.
        say: told what became of `auto`.
    """
    counts = [pool.settings.actors.least for pool in pools]
    if any(pool.settings.actors.auto for pool in pools):
        counts = place(_free(), [*(pool.demand for pool in pools), beside])[:-1]
    made = [pool.of_size(count) for pool, count in zip(pools, counts, strict=True)]
    auto = [pool for pool in made if pool.settings.actors.auto]
    if auto:
        numbers = ", ".join(f"{pool.actors} of {pool.name}" for pool in auto)
        say(f"actors     {numbers}" + (f" ({shared})" if len(auto) > 1 else ""))
    return made


def _free() -> list[Node]:
    """What each node has left, once nothing more is given back.

    Reservations go one by one when a driver was killed, and those of the catalog's tasks a while after
    them; what is held for longer belongs to others.
    """
    before, since = None, time.monotonic()
    while True:
        whole, draining = live_nodes(), state.get_draining_nodes()
        whole = {name: node for name, node in whole.items() if name not in draining}
        free = available_resources_per_node()
        left = {name: _left(node, free.get(name, {})) for name, node in whole.items()}
        if left != before:
            before, since = left, time.monotonic()
        if left == whole or time.monotonic() - since > _SETTLE_S:
            return list(left.values())
        time.sleep(_LOOK_S)


def _left(node: Node, left: Mapping[str, float]) -> Node:
    return replace(node, cpus=left.get("CPU", 0), gpus=left.get("GPU", 0))


@contextmanager
def room(
    pools: Sequence[Pool], wait: bool, say: Callable[[str], None]
) -> Iterator[dict[str, PlacementGroup]]:
    """Reserve the GPUs of pools that do not grow, engines of many GPUs first; by the pools' names.

    Left to themselves, actors with one GPU spread over the nodes, and an engine of eight finds none that
    has eight left. A lost node's share is reserved anew by Ray, where there is room.

    Raises:
        RecipeError: others hold what is needed, and it is not waited for.
    """
    groups: dict[str, PlacementGroup] = {}
    try:
        for pool in sorted(pools, key=lambda pool: -pool.settings.gpus):
            if pool.settings.gpus and pool.actors == pool.most:
                groups[pool.name] = placement_group([bundle(pool.demand)] * pool.actors)
                _await(pool, groups[pool.name], wait, say)
        yield groups
    finally:
        for group in groups.values():
            remove_placement_group(group)


def _await(pool: Pool, group: PlacementGroup, wait: bool, say: Callable[[str], None]) -> None:
    if group.wait(_ROOM_S):
        return
    each = f"{pool.settings.gpus:g} GPUs and {pool.settings.cpus:g} CPUs on one node"
    held = f"{pool.name}: others hold what the cluster has for its {pool.actors} actors ({each})"
    if not wait:
        raise RecipeError(
            f"{held}; `ray status` shows what is free; lower `actors`, make it `auto`, or wait with --wait"
        )
    say(f"waiting for room: {held}")
    while not group.wait(60):
        pass
