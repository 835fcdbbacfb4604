"""Spreading work over the cluster: a function over slices, workers over items. For the jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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

    A worker that dies is started anew, and the items it had are tried one at a time; one on which
    workers die `_ATTEMPTS` times, with nothing else in their hands, stops the job.

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
    pool = _Pool(items, lambda: remote.remote(*arguments))
    try:
        for _ in range(min(actors, len(items))):
            pool.start()
        while pool.waiting or pool.busy:
            (done,), _ = ray.wait([*pool.busy, *pool.starting], num_returns=1)
            if done in pool.starting:
                ray.get(done)
                pool.started(done)
            else:
                yield from _result(pool, done)
    finally:
        pool.kill()


@dataclass(eq=False)
class _Worker:
    actor: Any
    #: The items in its hands by their tasks' references, oldest first.
    tasks: dict[Any, int] = field(default_factory=dict)


class _Pool:
    """The workers of a job and the items that wait for them.

    Items go to workers that live: one that finds no place in the cluster keeps none from the others. Of
    several items in the hands of a worker that died nobody knows which it died of (of one that was done
    the answer may have been lost with it), so each of them is then tried alone, and such deaths count.
    """

    def __init__(self, items: Sequence[Any], make: Callable[[], Any]) -> None:
        self.items, self._make = items, make
        self.waiting = list(reversed(range(len(items))))
        self.starting, self.busy = dict[Any, _Worker](), dict[Any, _Worker]()
        self._living = set[_Worker]()
        self._deaths, self._suspects = Counter[int](), set[int]()

    def start(self) -> None:
        worker = _Worker(self._make())
        self.starting[worker.actor.__ray_ready__.remote()] = worker

    def started(self, reference: Any) -> None:
        worker = self.starting.pop(reference)
        self._living.add(worker)
        self._give(worker)

    def finished(self, reference: Any) -> None:
        worker = self.busy.pop(reference)
        self._suspects.discard(worker.tasks.pop(reference))
        self._give(worker)

    def died(self, worker: _Worker) -> tuple[Any, int]:
        """Start another instead, with the same items: the first, and how often workers died of it alone."""
        lost = list(worker.tasks.values())
        self._suspects.update(lost)
        if len(lost) == 1:
            self._deaths[lost[0]] += 1
        for task in worker.tasks:
            del self.busy[task]
        self.waiting += reversed(lost)
        self._living.remove(worker)
        ray.kill(worker.actor)
        self.start()
        for other in self._living:
            self._give(other)
        return self.items[lost[0]], self._deaths[lost[0]]

    def kill(self) -> None:
        for worker in [*self.starting.values(), *self._living]:
            ray.kill(worker.actor)

    def _give(self, worker: _Worker) -> None:
        while self.waiting and len(worker.tasks) < _AHEAD:
            together = {self.waiting[-1], *worker.tasks.values()}
            if worker.tasks and together & self._suspects:
                return
            index = self.waiting.pop()
            # Not tried again by Ray, which would count the deaths against all items in the worker's hands.
            task = worker.actor.work.options(max_task_retries=0).remote(self.items[index])
            worker.tasks[task], self.busy[task] = index, worker


def _result(pool: _Pool, done: Any) -> Iterator[Any]:
    """What a task returned; nothing if its worker died, and its items are tried again."""
    try:
        found = ray.get(done)
    except ray.exceptions.RayActorError as error:
        item, deaths = pool.died(pool.busy[done])
        if deaths == _ATTEMPTS:
            raise StorageError(
                f"{item}: workers died of it {_ATTEMPTS} times (out of memory, most likely): give each more "
                "(fewer actors), and run the same command again; what is finished is kept"
            ) from error
    except Exception as error:
        raise explain(error) from error
    else:
        pool.finished(done)
        yield found


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
