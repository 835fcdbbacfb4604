"""Joining or starting Ray, and asking first whether the cluster carries the recipe's pools."""

from __future__ import annotations

import logging
import math
import os
import platform
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from engine.errors import RecipeError
from engine.flow.capacity import Need, find_room
from engine.planning.placing import Demand


@contextmanager
def cluster(
    address: str | None,
    pools: Sequence[Demand],
    verbose: bool,
    together: bool = True,
    wait: bool = False,
    say: Callable[[str], None] = print,
) -> Iterator[None]:
    """Connect to the cluster at `address` (or RAY_ADDRESS), else start one on this machine.

    A local Ray is told of as many CPUs as the pools reserve: on a laptop reservations are
    bookkeeping, and a run that waits for a third core for ever helps nobody.

    Args:
        address: of the cluster.
        pools: what is reserved.
        verbose: show Ray's and the workers' logs.
        together: whether the pools reserve at the same time, or one after the other.
        wait: for nodes that a cluster lacks, instead of refusing.
        say: told what is waited for.

    Raises:
        RecipeError: the cluster does not answer, runs other versions, or is too small for the pools.
    """
    need = Need(pools, together)
    # Ray's own defaults phone home and hold back worker logs' duplicates; neither is wanted here.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = joins(address)
    joined = not ray.is_initialized()
    if joined:
        _start(address, need.cpus, verbose)
    try:
        find_room(need, grows=address is not None, wait=wait, say=say)
        yield
    finally:
        if joined:
            ray.shutdown()


def joins(address: str | None) -> str | None:
    """The cluster that a command with this `--address` joins; None if it starts a Ray of its own."""
    address = address or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address or None


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
    except AuthenticationError as error:
        if not address:
            raise
        raise _no_token(address) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        if not address:
            raise
        if mismatch := _versions(address, str(error)):
            raise RecipeError(mismatch) from error
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


def _no_token(address: str) -> RecipeError:
    return RecipeError(
        f"the cluster at {address} asks for a token, and what came from here is none or another: set "
        "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's (`ray "
        "get-auth-token` prints it on the head node)"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's C++ core from the terminal: it logs as errors what it then mends itself.

    It announces this choice, too, while it starts; that line is held back, unless starting fails.

    Raises:
        AuthenticationError: it said that the cluster takes no token from here, which its own exception
            does not tell from a cluster that is not there.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException as error:
            held.seek(0)
            said = held.read()
            if b"InvalidAuthToken" in said:
                raise AuthenticationError("the token is missing or another") from error
            os.write(terminal, said)
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _versions(address: str, message: str) -> str | None:
    """What to say if Ray refused because the cluster runs other versions than this process."""
    found = re.search(r"cluster was started with:\s+Ray: (\S+)\s+Python: (\S+)", message)
    if not found:
        return None
    ray_there, python_there = found.groups()
    return (
        f"the cluster at {address} runs Ray {ray_there} and Python {python_there}, this command Ray "
        f"{ray.__version__} and Python {platform.python_version()}; they must be the same to the last digit: "
        "install this environment on the cluster's nodes, or run the command in theirs"
    )
