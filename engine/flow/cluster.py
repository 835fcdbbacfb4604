"""Joining or starting Ray, and asking first whether the cluster carries the recipe's pools."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import ray

from engine.errors import RecipeError


@dataclass(frozen=True)
class Reservation:
    """What one pool of workers reserves: `actors` of them at least, each so many CPUs and GPUs."""

    name: str
    actors: int
    cpus: float
    gpus: float


@contextmanager
def cluster(
    address: str | None,
    pools: Sequence[Reservation],
    verbose: bool,
    beside: float = 0,
    together: bool = True,
) -> Iterator[None]:
    """Connect to the cluster at `address` (or RAY_ADDRESS), else start one on this machine.

    A local Ray is told of as many CPUs as the pools reserve: on a laptop reservations are
    bookkeeping, and a run that waits for a third core for ever helps nobody.

    Args:
        address: of the cluster.
        pools: what is reserved.
        verbose: show Ray's and the workers' logs.
        beside: CPUs that tasks beside the pools reserve.
        together: whether the pools reserve at the same time, or one after the other.

    Raises:
        RecipeError: the cluster does not answer or is too small for the pools.
    """
    carried = sum if together else max
    cpus = carried([pool.cpus * pool.actors for pool in pools] or [0.0]) + beside
    gpus = carried([pool.gpus * pool.actors for pool in pools] or [0.0])
    # Ray's own defaults phone home and hold back worker logs' duplicates; neither is wanted here.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    joined = not ray.is_initialized()
    if joined:
        _start(address, cpus, verbose)
    try:
        _check(cpus, gpus, pools)
        yield
    finally:
        if joined:
            ray.shutdown()


def set_node_defaults(cpus: int) -> None:
    """How the nodes that this process starts treat their workers, where the user has not said so.

    Ray ends a worker that was idle for a second where a node has more workers than CPUs, and
    counts actors that reserve nothing, of which Ray Data has four. On small nodes nearly every
    part was then read by a new process, at a second of computing each (`benchmarks.scaling`: an
    efficiency of 0.7 instead of 0.99). Large nodes have room for them.

    Ray also gives its workers the priority of a background task (niceness 15), so that anything
    else on the machine, down to a log rotation, goes before the engine that a GPU waits for.
    """
    os.environ.setdefault("RAY_num_workers_soft_limit", str(4 * cpus + 8))
    os.environ.setdefault("RAY_worker_niceness", "0")


def _start(address: str | None, cpus: float, verbose: bool) -> None:
    # Ray prints an exception at level ERROR before it raises it, with advice on Ray's own settings;
    # what the user is told is `explain`'s message alone.
    level = logging.INFO if verbose else logging.CRITICAL
    if address and address.startswith("ray://"):
        raise RecipeError(
            f"address {address}: Ray Data does not run through Ray Client; run the command on a node of the "
            "cluster, or from here: connote submit RECIPE --address http://HEAD:8265"
        )
    options: dict[str, Any] = {"logging_level": level, "log_to_driver": verbose}
    if address:
        _check_reachable(address)
        options["address"] = address
    else:
        # Without `local` Ray joins whatever cluster was last started on this machine.
        options |= {"address": "local", "include_dashboard": False}
        options |= {"num_cpus": max(os.cpu_count() or 1, math.ceil(cpus))}
        set_node_defaults(options["num_cpus"])
    stop = signal.getsignal(signal.SIGTERM)
    try:
        with nullcontext() if verbose else _quiet():
            ray.init(**options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # Ray has put its own in the place of ours
    except (ConnectionError, RuntimeError, ValueError) as error:
        if not address:
            raise
        raise _nobody(address, str(error)) from error
    logging.getLogger("ray.data").setLevel(level)


def _check_reachable(address: str) -> None:
    """Ray knocks at an address where nobody is for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto` and `local` are not addresses
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise _nobody(address, error.strerror or str(error)) from error


def _nobody(address: str, reason: str) -> RecipeError:
    return RecipeError(
        f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`, or leave "
        "the address out to run on this machine"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's C++ core from the terminal: it logs as errors what it then mends itself.

    It announces this choice, too, while it starts; that line is held back, unless starting fails.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _check(cpus: float, gpus: float, pools: Sequence[Reservation]) -> None:
    there = ray.cluster_resources()
    for what, wanted, has in (("CPU", cpus, there.get("CPU", 0)), ("GPU", gpus, there.get("GPU", 0))):
        if wanted > has:
            raise RecipeError(
                f"the pools ({', '.join(pool.name for pool in pools)}) reserve {wanted:g} {what}s, the "
                f"cluster has {has:g}; lower `actors`, `cpus` or `gpus` of one, or add nodes"
            )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for pool in pools:
        one = {"CPU": pool.cpus, "GPU": pool.gpus}
        if not any(all(node.get(what, 0) >= amount for what, amount in one.items()) for node in nodes):
            raise RecipeError(
                f"{pool.name}: an actor reserves {one['CPU']:g} CPUs and {one['GPU']:g} GPUs"
                ", and no node of the cluster has both; lower `cpus` or `gpus`, or add a larger node"
            )
