"""Whether a cluster carries a recipe's pools, and waiting until it does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import ray
from ray._private.state import state

from engine.errors import RecipeError
from engine.planning.placing import Demand, Node, place

#: Seconds between two looks whether nodes that were missing are there.
_LOOK_S = 2.0
_REMEDY = "lower `actors`, `cpus` or `gpus` of one, or add nodes"
_TYPE = "accelerator_type:"  # how Ray marks a node's type of GPU among its resources


@dataclass(frozen=True)
class Need:
    """What pools reserve.

    Attributes:
        pools: each of them; of its actors those count that it cannot begin without.
        together: whether they reserve at the same time, or one after the other.
    """

    pools: Sequence[Demand]
    together: bool = True

    @property
    def cpus(self) -> float:
        """At the same time."""
        return self._most([pool.cpus * pool.least for pool in self.pools])

    @property
    def gpus(self) -> float:
        """At the same time."""
        return self._most([pool.gpus * pool.least for pool in self.pools])

    def bundles(self) -> list[dict[str, float]]:
        """What a cluster that grows by itself should have room for: what each actor reserves."""
        asking = list(self.pools)
        if not self.together:
            largest = [lambda pool: pool.cpus * pool.least, lambda pool: pool.gpus * pool.least]
            asking = list({max(self.pools, key=size): None for size in largest}) if self.pools else []
        return [bundle(pool) for pool in asking for _ in range(pool.least)]

    def room(self, nodes: Sequence[Node]) -> list[int]:
        """Of each pool's actors, how many find room, up to those that it cannot begin without."""
        asking = [replace(pool, most=pool.least) for pool in self.pools]
        if self.together:
            return place(nodes, asking)
        return [count for pool in asking for count in place(nodes, [pool])]

    def _most(self, amounts: Sequence[float]) -> float:
        return sum(amounts) if self.together else max(amounts, default=0.0)


def find_room(need: Need, grows: bool, wait: bool, say: Callable[[str], None]) -> None:
    """Make sure that the Ray which this process is connected to carries what is needed.

    Args:
        need: what is reserved.
        grows: whether nodes may join it.
        wait: for nodes that are missing, if some may join.
        say: told what is missing, whenever that changes.

    Raises:
        RecipeError: something is missing, and it is not waited for.
    """
    lack = _lack(need)
    if lack and grows and wait:
        _await(need, say)
    elif lack:
        more = ", or wait for them with --wait" if grows else ""
        raise RecipeError(f"{lack.what}; {lack.remedy}{more}")


def bundle(pool: Demand) -> dict[str, float]:
    """What an actor reserves, in Ray's words."""
    kind = {f"{_TYPE}{pool.gpu_type}": 0.001} if pool.gpu_type else {}
    return {what: amount for what, amount in (("CPU", pool.cpus), ("GPU", pool.gpus)) if amount} | kind


def _node(resources: Mapping[str, float]) -> Node:
    kinds = frozenset(name.removeprefix(_TYPE) for name in resources if name.startswith(_TYPE))
    return Node(resources.get("CPU", 0), resources.get("GPU", 0), kinds)


@dataclass(frozen=True)
class _Lack:
    """What a cluster does not have, and what to do about it."""

    what: str
    remedy: str


def live_nodes() -> dict[str, Node]:
    """The cluster's nodes by Ray's names, without those that were told to leave."""
    leaving = state.get_draining_nodes()
    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    return {name: _node(node["Resources"]) for name, node in alive.items() if name not in leaving}


def _lack(need: Need) -> _Lack | None:
    """What is missing for certain: of a type, in sum, or for a pool by itself.

    Whether pools that fit one by one do so together is more than `place` can say of every cluster.
    """
    nodes = list(live_nodes().values())
    if lack := next((lack for pool in need.pools if (lack := _missing_type(pool, nodes))), None):
        return lack
    for pool in need.pools:
        if _sums_suffice(need, nodes) and not place(nodes, [replace(pool, least=1, most=1)])[0]:
            return _Lack(
                f"{pool.name}: an actor reserves {pool.cpus:g} CPUs and {pool.gpus:g} GPUs, and no node of "
                "the cluster has both",
                "lower `cpus` or `gpus`, or add larger nodes",
            )
    alone = [place(nodes, [replace(pool, most=pool.least)])[0] >= pool.least for pool in need.pools]
    return None if _sums_suffice(need, nodes) and all(alone) else _too_little(need, nodes, need.room(nodes))


def _sums_suffice(need: Need, nodes: Sequence[Node]) -> bool:
    return all(_sum_of(what, nodes) >= getattr(need, what) for what in ("cpus", "gpus"))


def _too_little(need: Need, nodes: Sequence[Node], fit: Sequence[int]) -> _Lack:
    """Both figures, and how many actors there would be room for."""
    pools = list(zip(need.pools, fit, strict=True))
    room = ", ".join(f"{count} of {pool.least} actors of {pool.name}" for pool, count in pools)
    for what, unit in (("cpus", "CPUs"), ("gpus", "GPUs")):
        if (has := _sum_of(what, nodes)) < (wanted := getattr(need, what)):
            names = ", ".join(pool.name for pool in need.pools)
            said = f"the pools ({names}) reserve {wanted:g} {unit}, the cluster has {has:g}: room for {room}"
            return _Lack(said, _REMEDY)
    kinds = Counter(f"{node.gpus:g} GPUs and {node.cpus:g} CPUs" for node in nodes)
    there = ", ".join(f"{count} with {kind}" for kind, count in kinds.items())
    return _Lack(f"there is room for {room}, each on one node ({there})", _REMEDY)


def _missing_type(pool: Demand, nodes: Sequence[Node]) -> _Lack | None:
    there = set[str]().union(*(node.gpu_types for node in nodes))
    if pool.gpu_type is None or pool.gpu_type in there:
        return None
    named = ", ".join(sorted(there)) or "no GPU"
    return _Lack(
        f"{pool.name}: gpu_type is {pool.gpu_type}, and the cluster's nodes have {named}",
        "name one of these, leave `gpu_type` out, or add nodes that have it",
    )


def _sum_of(what: str, nodes: Sequence[Node]) -> float:
    return sum(node.cpus if what == "cpus" else node.gpus for node in nodes)


def _await(need: Need, say: Callable[[str], None]) -> None:
    from ray.autoscaler.sdk import request_resources

    # A cluster that grows by itself is asked to; on others this does nothing.
    request_resources(bundles=need.bundles())
    try:
        told = ""
        while lack := _lack(need):
            if lack.what != told:
                say(f"waiting for nodes: {lack.what}")
                told = lack.what
            time.sleep(_LOOK_S)
    finally:
        request_resources(bundles=[])  # from now on the pools ask for themselves
