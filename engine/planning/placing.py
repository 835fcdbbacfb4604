"""How many actors of each pool the nodes of a cluster carry; no Ray in here.

An actor has what it reserves on one node: whole GPUs of it, or a share of one GPU. So the sum over a
cluster says less than its nodes do: two nodes with 6 free GPUs each carry two engines of 4, not three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Ray counts in units of a ten-thousandth; whole numbers of it add up without rounding.
_UNIT = 10_000


@dataclass(frozen=True)
class Node:
    """What a node has for pools."""

    cpus: float
    gpus: float = 0
    gpu_types: frozenset[str] = frozenset()  # of its GPUs, as Ray names them


@dataclass(frozen=True)
class Demand:
    """What a pool wants.

    Attributes:
        name: of the pool.
        cpus, gpus: of each actor.
        least: actors that it cannot begin without.
        most: actors that it may begin with; None where only the nodes limit it.
        weight: of two pools that may grow, the one with twice the weight gets twice the devices:
            the time that a device takes for one sample, in any unit.
        gpu_type: that its nodes must have, such as H100; None where any will do.
    """

    name: str
    cpus: float
    gpus: float = 0
    least: int = 1
    most: int | None = None
    weight: float = 1
    gpu_type: str | None = None

    @property
    def devices(self) -> float:
        """That an actor computes with: its GPUs, or itself."""
        return self.gpus or 1


def place(nodes: Iterable[Node], demands: Sequence[Demand]) -> list[int]:
    """How many actors of each pool find room at once.

    First every pool gets what it cannot begin without: those first that want a type of GPU, and engines of
    many GPUs before small ones that would break up the nodes. Then the pool that is slowest for its weight
    gets another one, until nothing fits or every pool has the most that it wants. Each actor goes
    where it fits best, which is not always how most of them would fit.

    Args:
        nodes: of the cluster.
        demands: of the pools.

    Returns:
        Actors of each pool, in order: from `least` to `most`, or below `least` where the nodes have no
        more room.
    """
    rooms = [_Room.of(node) for node in nodes]
    wanted = frozenset(demand.gpu_type for demand in demands if demand.gpu_type)
    placed = [0] * len(demands)
    for index in sorted(range(len(demands)), key=lambda i: _rank(demands[i])):
        demand = demands[index]
        while placed[index] < demand.least and _take(rooms, demand, wanted):
            placed[index] += 1
    if any(count < demand.least for count, demand in zip(placed, demands, strict=True)):
        return placed
    growing = {index for index, demand in enumerate(demands) if _wants(demand, placed[index])}
    while growing:
        index = min(growing, key=lambda i: (placed[i] * demands[i].devices / demands[i].weight, i))
        if _take(rooms, demands[index], wanted):
            placed[index] += 1
        else:
            growing.discard(index)
        if not _wants(demands[index], placed[index]):
            growing.discard(index)
    return placed


def _rank(demand: Demand) -> tuple[bool, float, float]:
    return demand.gpu_type is None, -demand.gpus, -demand.cpus


def _wants(demand: Demand, placed: int) -> bool:
    """Whether one more would be taken; of what reserves nothing there is no end, so it has what it needs."""
    if not (demand.cpus or demand.gpus):
        return False
    return demand.most is None or placed < demand.most


@dataclass
class _Room:
    """What is free on a node, in units: its CPUs, and of each GPU the share."""

    cpus: int
    gpus: list[int]
    gpu_types: frozenset[str]

    @classmethod
    def of(cls, node: Node) -> _Room:
        whole = int(node.gpus)
        rest = _units(node.gpus - whole)
        return cls(_units(node.cpus), [_UNIT] * whole + [rest] * bool(rest), node.gpu_types)

    @property
    def free(self) -> int:
        return sum(self.gpus)

    def chosen(self, demand: Demand) -> list[int] | None:
        """Which GPUs an actor would have here; None if it finds no room."""
        gpus = _units(demand.gpus)
        if _units(demand.cpus) > self.cpus or demand.gpu_type not in {None, *self.gpu_types}:
            return None
        if not gpus:
            return []
        if gpus < _UNIT:
            fitting = [index for index, free in enumerate(self.gpus) if free >= gpus]
            return [min(fitting, key=lambda index: self.gpus[index])] if fitting else None
        whole = [index for index, free in enumerate(self.gpus) if free == _UNIT]
        return whole[: gpus // _UNIT] if len(whole) * _UNIT >= gpus else None


def _take(rooms: Sequence[_Room], demand: Demand, wanted: frozenset[str]) -> bool:
    """Put an actor where it fits best: it leaves alone what others want by type, and then least behind."""
    fitting = [(room, chosen) for room in rooms if (chosen := room.chosen(demand)) is not None]
    if not fitting:
        return False
    others = wanted - {demand.gpu_type}
    room, chosen = min(fitting, key=lambda fit: (len(fit[0].gpu_types & others), fit[0].free, fit[0].cpus))
    room.cpus -= _units(demand.cpus)
    for index in chosen:
        room.gpus[index] -= min(_units(demand.gpus), _UNIT)
    return True


def _units(amount: float) -> int:
    return round(amount * _UNIT)
