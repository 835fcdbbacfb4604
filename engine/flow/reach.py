"""Asking every node of a cluster, before work starts, whether it reaches the run directory and the images."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engine.errors import RecipeError
from engine.flow.cluster import joins
from engine.storage import Location
from engine.storage.probe import LIMIT_S, Probe

#: Seconds for a worker to start, with the environment that a job asks for.
_START_S = 120
#: Kinds of trouble that are told at length.
_TOLD = 4


def check_reach(address: str | None, root: Location, source: Location | None = None) -> None:
    """Have a worker on every node that can work write below the run directory and read the images.

    A Ray that this process started itself is not asked: it is this machine.

    Args:
        address: as the user gave it.
        root: the run directory.
        source: a file of the images, or None.

    Raises:
        RecipeError: a node does not reach one of them; names node, path and what is wrong.
        StorageError: this process does not reach the run directory.
    """
    if joins(address) is None:
        return
    probe = Probe.leave(root, source)
    try:
        faults = _ask(probe)
    finally:
        probe.clear()
    if faults:
        raise RecipeError(_told(faults))


def _ask(probe: Probe) -> dict[str, str]:
    """What is wrong on which node, by its name; nodes that leave meanwhile are not asked."""
    task = ray.remote(_answer)
    nodes = {node["NodeID"]: node for node in ray.nodes() if _works(node)}
    asked = {
        task.options(
            num_cpus=0, max_retries=1, scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)
        ).remote(probe, name): name
        for name in nodes
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=LIMIT_S + _START_S)
    faults = {asked[each]: _fault(probe, each, asked[each]) for each in done}
    faults |= {asked[each]: f"starts no worker within {LIMIT_S + _START_S:g} s" for each in late}
    alive = {node["NodeID"] for node in ray.nodes() if _works(node)}
    return {_named(nodes[name]): fault for name, fault in faults.items() if fault and name in alive}


def _answer(probe: Probe, node: str) -> str | None:
    return probe.answer(node)


def _fault(probe: Probe, reference: Any, node: str) -> str | None:
    try:
        said: str | None = ray.get(reference)
    except Exception as error:  # no module of this name there, no memory, ...
        cause = getattr(error, "cause", None) or error
        return f"no worker runs there: {type(cause).__name__}: {str(cause).strip().splitlines()[-1]}"
    return said or probe.fault_of(node)


def _works(node: dict[str, Any]) -> bool:
    return bool(node["Alive"] and (node["Resources"].get("CPU") or node["Resources"].get("GPU")))


def _named(node: dict[str, Any]) -> str:
    address, host = node["NodeManagerAddress"], node["NodeManagerHostname"]
    return f"{host} ({address}, {node['NodeID'][:8]})"


def _told(faults: dict[str, str]) -> str:
    """One message: of each kind of trouble the nodes that have it."""
    nodes = defaultdict[str, list[str]](list)
    for node, fault in sorted(faults.items()):
        nodes[fault].append(node)
    lines = [
        f"node {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {fault}"
        for fault, names in list(nodes.items())[:_TOLD]
    ]
    lines += [f"and {len(nodes) - _TOLD} other kinds of trouble"] if len(nodes) > _TOLD else []
    return (
        "not every node of the cluster reaches what this run reads and writes:\n  "
        + "\n  ".join(lines)
        + "\n  mend that on the nodes (variables: where `ray start` runs, or as `env_vars` of the job's "
        "runtime environment) and run the same command again"
    )
