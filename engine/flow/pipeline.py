"""The streaming pass: plan -> read -> pools -> reports, one part one block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from engine.flow.deaths import Deaths
from engine.flow.explain import explain
from engine.flow.pool_actor import PoolActor
from engine.flow.pools import Pool
from engine.flow.reading import READ_CPUS, PartSource
from engine.flow.report import PartReport
from engine.flow.turnstile import Turnstile
from engine.rundir import RunDirectory

#: An actor that remembers things for the session; lost with its node, it starts anew without them.
_LASTING: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}


def stream(
    work: pa.Table,
    run: RunDirectory,
    pools: Sequence[Pool],
    parts_in_flight: int,
    groups: Mapping[str, PlacementGroup] | None = None,
) -> Iterator[PartReport]:
    """Take the parts of `work` (rows of the plan) through the pools; yields each part's report.

    Args:
        work: parts.
        run: where they are committed.
        pools: with their sizes.
        parts_in_flight: that an actor works on at once.
        groups: what is reserved for pools, by their names.

    Raises:
        ConnoteError: what a task raised for the user, such as a full disk or a missing shard.
    """
    _set_context(parts_in_flight)
    deaths = ray.remote(**_LASTING)(Deaths).remote()
    # Only weights that are fetched need one to stand before; it is another process.
    remote = any(pool.weights for pool in pools)
    turnstile = ray.remote(**_LASTING, max_concurrency=10_000)(Turnstile).remote() if remote else None
    dataset = ray.data.read_datasource(PartSource(work, run), num_cpus=READ_CPUS)
    for pool in pools:
        dataset = dataset.map_batches(
            PoolActor,
            fn_constructor_kwargs={"pool": pool, "deaths": deaths, "turnstile": turnstile},
            # A batch is a block. Ray wants its rows counted where there are GPUs, and a block has one.
            batch_size=1 if pool.settings.gpus else None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=_strategy(pool, parts_in_flight),
            num_cpus=pool.settings.cpus,
            num_gpus=pool.settings.gpus or None,
            **_where(pool, groups or {}),
            runtime_env={"env_vars": pool.environment} if pool.environment else None,
        )
    try:
        for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for text in block["report"].to_pylist():
                yield PartReport.from_json(text)
    except Exception as error:
        raise explain(error) from error


def _strategy(pool: Pool, parts_in_flight: int) -> ActorPoolStrategy:
    # One part waits at the actor while the others run, so that none is fetched with an idle engine.
    return ActorPoolStrategy(
        min_size=pool.actors,
        max_size=pool.most,
        max_concurrent_calls_per_actor=parts_in_flight,
        max_tasks_in_flight_per_actor=parts_in_flight + 1,
    )


def _where(pool: Pool, groups: Mapping[str, PlacementGroup]) -> dict[str, Any]:
    """On which nodes its actors may be: those that were reserved for it, or have its type of GPU."""
    options: dict[str, Any] = {}
    if pool.settings.gpu_type:
        options["accelerator_type"] = pool.settings.gpu_type
    if group := groups.get(pool.name):
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group)
    return options


def _set_context(parts_in_flight: int) -> None:
    context = DataContext.get_current()
    context.target_max_block_size = 1  # one part, one row, one block: see `parcel`
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # The original exception, without the frames of Ray's executor around it.
    context.raise_original_map_exception = True
    # A pool that may grow does so when a part waits at half of its actors, beside those they work on.
    # Ray's own threshold, 1.75 parts for each that is worked on, is out of reach of actors that take several.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1 + 0.5 / parts_in_flight
