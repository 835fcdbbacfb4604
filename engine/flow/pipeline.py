"""The streaming pass: plan -> read -> pools -> reports, one part one block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from engine.flow.deaths import Deaths
from engine.flow.explain import explain
from engine.flow.pools import Pool, PoolActor
from engine.flow.reading import READ_CPUS, PartSource
from engine.flow.report import PartReport
from engine.rundir import RunDirectory


def stream(
    work: pa.Table, run: RunDirectory, pools: Sequence[Pool], parts_in_flight: int
) -> Iterator[PartReport]:
    """Take the parts of `work` (rows of the plan) through the pools; yields each part's report.

    Raises:
        ConnoteError: what a task raised for the user, such as a full disk or a missing shard.
    """
    _set_context()
    deaths = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Deaths).remote()
    dataset = ray.data.read_datasource(PartSource(work, run), num_cpus=READ_CPUS)
    for pool in pools:
        dataset = dataset.map_batches(
            PoolActor,
            fn_constructor_kwargs={"pool": pool, "deaths": deaths},
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=_strategy(pool, parts_in_flight),
            num_cpus=pool.settings.cpus,
            num_gpus=getattr(pool.settings, "gpus", 0) or None,
            runtime_env={"env_vars": pool.environment} if pool.environment else None,
        )
    try:
        for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for text in block["report"].to_pylist():
                yield PartReport.from_json(text)
    except Exception as error:
        raise explain(error) from error


def _strategy(pool: Pool, parts_in_flight: int) -> ActorPoolStrategy:
    actors = pool.settings.actors
    size: dict[str, int] = (
        {"size": actors.min} if actors.min == actors.max else {"min_size": actors.min, "max_size": actors.max}
    )
    # One part waits at the actor while the others run, so that none is fetched with an idle engine.
    return ActorPoolStrategy(
        **size,
        max_concurrent_calls_per_actor=parts_in_flight,
        max_tasks_in_flight_per_actor=parts_in_flight + 1,
    )


def _set_context() -> None:
    context = DataContext.get_current()
    context.target_max_block_size = 1  # one part, one row, one block: see `parcel`
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # The original exception, without the frames of Ray's executor around it.
    context.raise_original_map_exception = True
