"""Whether a cluster carries a recipe's pools, and waiting until it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray

from engine.errors import RecipeError

#: Seconds between two looks whether nodes that were missing are there.
_LOOK_S = 2.0


@dataclass(frozen=True)
class Reservation:
    """What one pool of workers reserves: `actors` of them at least, each so many CPUs and GPUs."""

    name: str
    actors: int
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Need:
    """What pools reserve.

    Attributes:
        pools: each of them.
        together: whether they reserve at the same time, or one after the other.
        beside: CPUs that tasks beside them reserve.
    """

    pools: Sequence[Reservation]
    together: bool = True
    beside: float = 0

    @property
    def cpus(self) -> float:
        """At the same time."""
        return self._most([pool.cpus * pool.actors for pool in self.pools]) + self.beside

    @property
    def gpus(self) -> float:
        """At the same time."""
        return self._most([pool.gpus * pool.actors for pool in self.pools])

    def bundles(self) -> list[dict[str, float]]:
        """What a cluster that grows by itself should have room for: CPUs and GPUs of each actor."""
        asking = list(self.pools)
        if not self.together:
            largest = [lambda pool: pool.cpus * pool.actors, lambda pool: pool.gpus * pool.actors]
            asking = list({max(self.pools, key=size): None for size in largest}) if self.pools else []
        return [_bundle(pool) for pool in asking for _ in range(pool.actors)]

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


@dataclass(frozen=True)
class _Lack:
    """What a cluster does not have, and what to do about it."""

    what: str
    remedy: str


def _lack(need: Need) -> _Lack | None:
    there = ray.cluster_resources()
    for what, wanted in (("CPU", need.cpus), ("GPU", need.gpus)):
        if wanted > (has := there.get(what, 0)):
            return _Lack(
                f"the pools ({', '.join(pool.name for pool in need.pools)}) reserve {wanted:g} {what}s, the "
                f"cluster has {has:g}",
                "lower `actors`, `cpus` or `gpus` of one, or add nodes",
            )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for pool in need.pools:
        one = {"CPU": pool.cpus, "GPU": pool.gpus}
        if not any(all(node.get(what, 0) >= amount for what, amount in one.items()) for node in nodes):
            return _Lack(
                f"{pool.name}: an actor reserves {one['CPU']:g} CPUs and {one['GPU']:g} GPUs, and no node of "
                "the cluster has both",
                "lower `cpus` or `gpus`, or add larger nodes",
            )
    return None


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


def _bundle(pool: Reservation) -> dict[str, float]:
    return {what: amount for what, amount in (("CPU", pool.cpus), ("GPU", pool.gpus)) if amount}
