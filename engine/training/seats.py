"""Room for workers in a cluster: how many can be placed now, and whether more could be later.

Ray Train's own elastic policy counts the CPUs of all nodes, used or not, and a dead node for up to
20 seconds: it then waits a minute for a placement that cannot come. To grow, it ends the workers
between two checkpoints. So each stretch of a training has a fixed number of workers, and what is
asked for room is the scheduler itself: a placement group for each worker that may be.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress

from ray.util.placement_group import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from engine.errors import StorageError
from engine.recipe.finetune import Finetune

#: Seconds without another seat after which no more are expected at once.
_SETTLED_S = 3.0
#: Seconds between two looks, and two messages of waiting, and until it is given up.
_LOOK_S, _SAY_S, _GIVE_UP_S = 0.2, 60.0, 300.0


class Seats:
    """Reservations of a worker each, until they are given back or the driver ends.

    Those that the cluster has no room for stay asked for, which also tells an autoscaler.

    Args:
        count: how many.
        resources: of each.
        name: of all of them; in a cluster no others have it.
    """

    def __init__(self, count: int, resources: Mapping[str, float], name: str) -> None:
        self._groups = [placement_group([dict(resources)], name=f"{name}-{seat}") for seat in range(count)]

    def granted(self) -> int:
        """How many the cluster has room for, now."""
        return sum(placement_group_table(group)["state"] == "CREATED" for group in self._groups)


def give_back(name: str, count: int) -> None:
    """End reservations of this name, up to `count`; those of a process that died stay without it."""
    for seat in range(count):
        with suppress(ValueError):  # there is none
            remove_placement_group(get_placement_group(f"{name}-{seat}"))


def resources(settings: Finetune) -> dict[str, float]:
    """What Ray reserves for a worker."""
    return {"CPU": settings.cpus, **({"GPU": settings.gpus} if settings.gpus else {})}


def room(settings: Finetune, say: Callable[[str], None]) -> int:
    """How many workers to train with: of a range as many as the cluster carries now.

    Raises:
        StorageError: it does not carry the least for minutes.
    """
    least, most = settings.worker_bounds
    if least == most:
        return most
    name = f"room-{uuid.uuid4().hex}"
    try:
        return _granted(Seats(most, resources(settings), name), least, most, say)
    finally:
        give_back(name, most)


def _granted(seats: Seats, least: int, most: int, say: Callable[[str], None]) -> int:
    begun = changed = told = time.monotonic()
    count = 0
    while True:
        before, count, now = count, seats.granted(), time.monotonic()
        changed = now if count != before else changed
        if count == most or (count >= least and now - changed >= _SETTLED_S):
            return count
        short = f"the cluster has room for {count} of at least {least} workers"
        if count < least and now - begun >= _GIVE_UP_S:
            raise StorageError(
                f"finetune.workers is [{least}, {most}], and for {_GIVE_UP_S / 60:.0f} minutes {short}; "
                "lower it, add nodes, or end what else reserves their CPUs or GPUs, and run the same command "
                "to go on"
            )
        if count < least and now - told >= _SAY_S:
            told = now
            say(f"waiting: {short} (finetune.workers)")
        time.sleep(_LOOK_S)
