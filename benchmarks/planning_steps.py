"""The steps that `benchmarks.planning` measures, each in a process of its own."""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from engine.catalog import CatalogTables, discover, plan_parts, scan
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.stages import build_stages
from engine.status import work_left

#: A step: what precedes it, which returns the function that is measured.
Step = Callable[[Recipe, RunDirectory], Callable[[], object]]


@dataclass(frozen=True)
class Spent:
    """Seconds, seconds of processors, MiB at the peak; of a step also those beside imports."""

    wall: float
    cpu: float
    peak: float
    grown: float = 0.0


def shard(recipe: Recipe, run: RunDirectory) -> Callable[[], object]:
    """One tar is read from start to end, its content digested, and its samples found."""
    first = discover(recipe.images, run.root)[0]
    return lambda: scan(first, recipe.images)


def catalog(recipe: Recipe, run: RunDirectory) -> Callable[[], object]:
    """The driver finds every shard cataloged and unchanged, and the plan as it was."""
    from engine.flow.catalog import refresh_catalog

    return lambda: refresh_catalog(recipe, run, _refuse, print)


def plan(recipe: Recipe, run: RunDirectory) -> Callable[[], object]:
    """The catalog is cut into parts."""
    shards = discover(recipe.images, run.root)
    headers = CatalogTables(run.catalog).get_all(shards).values()
    return lambda: plan_parts(run.catalog, headers, recipe.run.part_rows, recipe.run.part_bytes)


def status(recipe: Recipe, run: RunDirectory) -> Callable[[], object]:
    """What `connote status` says."""
    from jobs.show import status_lines

    return lambda: status_lines(run, None, [])


def resume(recipe: Recipe, run: RunDirectory) -> Callable[[], object]:
    """All that a run does before it streams, Ray Data's read tasks, and the first part with its images."""
    import ray

    from engine.flow.cluster import cluster
    from engine.flow.mine import plan_work
    from engine.flow.pools import plan_pools
    from engine.flow.reading import READING, PartSource

    stages = build_stages(recipe)

    def prepare() -> object:
        pools, _ = plan_pools(recipe, run, stages, retry_failed=False)
        _, work = plan_work(recipe, run, stages, lambda _: None, print, retry_failed=False)
        tasks = PartSource(work, run).get_read_tasks(1)
        return pools, next(iter(tasks[0]()))

    ended = ExitStack()
    ended.enter_context(cluster("local", [READING], verbose=False))
    atexit.register(ended.close)
    ray.get(ray.put(0))
    return prepare


def bare(recipe: Recipe, run: RunDirectory) -> Callable[[], object]:
    """The names in the same directories and the catalog's footers, by os.scandir and pyarrow alone."""

    def read() -> None:
        for directory in [run.catalog, *(run.tables(stage).directory for stage in build_stages(recipe))]:
            with os.scandir(directory.uri) as found:
                names = [entry.name for entry in found]
        for table in sorted(Path(run.catalog.uri).iterdir()):
            names += pq.read_schema(table).names

    return read


STEPS: dict[str, Step] = {each.__name__: each for each in (shard, catalog, plan, status, resume, bare)}
#: Those whose work grows with the run.
GROWING = ("catalog", "plan", "status", "resume")


def next_part(directory: Path) -> Path:
    """The table that the last stage will write of the first part that is left to do."""
    run = RunDirectory.at(str(directory))
    recipe, parts = run.read_recipe(), run.read_plan()
    stages = build_stages(recipe)
    work = work_left(run, parts, stages, retry_failed=False)
    return Path(run.tables(stages[-1]).table(work["part"][0].as_py()).uri)


def spend(step: str, directory: str) -> Spent:
    """Take a step in this process."""
    run = RunDirectory.at(directory)
    work = STEPS[step](run.read_recipe(), run)
    before, started, busy = peak_mib(), time.perf_counter(), time.process_time()
    work()
    wall, cpu, after = time.perf_counter() - started, time.process_time() - busy, peak_mib()
    return Spent(wall, cpu, after, after - before)


def peak_mib(process: int | str = "self") -> float:
    """The most memory that a process had so far; `ru_maxrss` may be that of the process which started it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _refuse(_: Any) -> None:
    raise SystemExit("planning: a shard was to be scanned again, though nothing changed")


if __name__ == "__main__":
    print(json.dumps(vars(spend(sys.argv[1], sys.argv[2]))), flush=True)
