"""Spreading work over the cluster: a function over slices, workers over items. For the jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from engine.errors import StorageError
from engine.flow.explain import explain

#: Slices of a plan, and so tasks: enough for any cluster, few enough for any driver.
MAX_SLICES = 512
#: Parts that one task reads, unless there are more than fit `MAX_SLICES`.
SLICE = 16
#: Items that wait at a worker, so that it never waits for the driver.
_AHEAD = 2
#: How often an item, or a task, is tried by workers that die.
_ATTEMPTS = 3


def slices(items: Sequence[Any], at_least: int = SLICE) -> list[Sequence[Any]]:
    """Consecutive items in at most `MAX_SLICES` slices of at least so many."""
    size = max(at_least, -(-len(items) // MAX_SLICES), 1)
    return [items[start : start + size] for start in range(0, len(items), size)]


def spread(
    items: Sequence[Any],
    worker: type,
    arguments: Sequence[Any],
    actors: int,
    cpus: float,
    gpus: float = 0,
) -> Iterator[Any]:
    """Give each item to one of `actors` workers; yields what they make of them, as it comes.

    A worker that dies is started anew, with the items it had; an item on which workers die
    `_ATTEMPTS` times stops the job.

    Args:
        items: small; what they name is read by the workers.
        worker: a class with a method `work(item)`; its constructor should not fail.
        arguments: of its constructor.
        actors, cpus, gpus: how many, and what each reserves.

    Raises:
        ConnoteError: what a worker raised for the user, or that workers die of an item.
    """
    remote = ray.remote(worker).options(
        num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=_ATTEMPTS - 1
    )
    pool = [remote.remote(*arguments) for _ in range(min(actors, len(items)))]
    # Items go to workers that live: one that finds no place in the cluster keeps none from the others.
    starting = {actor.__ray_ready__.remote(): actor for actor in pool}
    waiting, busy = list(reversed(items)), dict[Any, tuple[Any, Any]]()

    def give(actor: Any) -> None:
        if waiting:
            item = waiting.pop()
            busy[actor.work.remote(item)] = (actor, item)

    try:
        while waiting or busy:
            (done,), _ = ray.wait([*busy, *starting], num_returns=1)
            if done in starting:
                actor = starting.pop(done)
                ray.get(done)
                for _ in range(_AHEAD):
                    give(actor)
                continue
            actor, item = busy.pop(done)
            give(actor)
            yield _result(done, item)
    finally:
        for actor in pool:
            ray.kill(actor)


def _result(reference: Any, item: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayActorError as error:
        raise StorageError(
            f"{item}: workers died of it {_ATTEMPTS} times (out of memory, most likely): give each more "
            "(fewer actors), and run the same command again; what is finished is kept"
        ) from error
    except Exception as error:
        raise explain(error) from error


def each(
    items: Sequence[Any],
    function: Callable[..., Any],
    *arguments: Any,
    cpus: float = 1,
    gpus: float = 0,
) -> list[Any]:
    """References to `function(item, *arguments)` of each item, in order, computed by tasks.

    Args:
        items: small, and few: see `slices`.
        function: runs in another process.
        arguments: the same for all; object references are resolved.
        cpus, gpus: that a task reserves.
    """
    task = ray.remote(function).options(num_cpus=cpus, num_gpus=gpus, max_retries=_ATTEMPTS)
    return [task.remote(item, *arguments) for item in items]


def results(references: Sequence[Any]) -> list[Any]:
    """What references stand for, brought here: for what is small.

    Raises:
        ConnoteError: what a task raised for the user.
    """
    try:
        return list(ray.get(list(references)))
    except Exception as error:
        raise explain(error) from error


def start(function: Callable[..., Any], *arguments: Any, cpus: float = 1, gpus: float = 0) -> Any:
    """A reference to the result of a task, which stays where it was computed."""
    task = ray.remote(function).options(num_cpus=cpus, num_gpus=gpus, max_retries=_ATTEMPTS)
    return task.remote(*arguments)


def call(function: Callable[..., Any], *arguments: Any, cpus: float = 1, gpus: float = 0) -> Any:
    """The result of a task, brought here: for what is small.

    Raises:
        ConnoteError: what it raised for the user.
    """
    return results([start(function, *arguments, cpus=cpus, gpus=gpus)])[0]
