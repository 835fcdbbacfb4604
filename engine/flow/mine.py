"""The mining run: catalog, plan, stream, summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.catalog import first_planned
from engine.errors import RecipeError
from engine.flow.catalog import refresh_catalog
from engine.flow.cluster import cluster
from engine.flow.metrics import RunMetrics
from engine.flow.pipeline import stream
from engine.flow.pools import plan_pools
from engine.flow.progress import Progress
from engine.flow.reach import check_reach
from engine.flow.reading import READING
from engine.flow.report import Session
from engine.flow.sizing import sized, whole_nodes
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.stages import Stage, build_stages
from engine.status import set_aside, stage_status, work_left
from engine.storage import Location
from engine.summary import summarize


def mine(
    recipe: Recipe,
    run: RunDirectory,
    *,
    address: str | None = None,
    retry_failed: bool = False,
    verbose: bool = False,
    wait: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the recipe's stages over its images, going on where an earlier run stopped.

    Args:
        recipe: what to run.
        run: where its output lies.
        address: a Ray cluster; by default RAY_ADDRESS or a Ray of this machine.
        retry_failed: compute error rows again.
        verbose: show Ray's and the workers' logs.
        wait: for nodes that the cluster lacks.
        say: takes the messages for the user.

    Returns:
        The summary, as written to summary.json.

    Raises:
        RecipeError: the recipe cannot be run as it is; nothing has been computed.
        StorageError: a source or the run directory fails; finished parts are kept.
    """
    stages = build_stages(recipe)
    if not stages:
        alone = ", or run its section finetune alone: `connote finetune RECIPE`" if recipe.finetune else ""
        raise RecipeError(
            f"the recipe has no stage; add describe, associate, caption, vqascore or embed{alone}"
        )
    pools, shared = plan_pools(recipe, run, stages, retry_failed)
    with ExitStack() as stack:
        # Ray starts only when there is work: asking a finished run again takes a second.
        started: list[bool] = []

        def start(source: Location | None) -> None:
            if not started:
                started.append(True)
                reserved = [*(pool.demand for pool in pools), READING]
                joining = cluster(address, reserved, verbose, wait=wait, say=say)
                stack.enter_context(joining)
                check_reach(address, run.root, source)

        plan, work = plan_work(recipe, run, stages, start, say, retry_failed)
        samples, rows = (int(pc.sum(some["rows"]).as_py() or 0) for some in (plan, work))
        say(f"{samples:,} samples in {len(plan):,} parts, {samples - rows:,} done before, {rows:,} to do")
        session, begun = Session(), time.monotonic()
        if len(work):
            pools = sized(pools, READING, shared, wait, say)
            groups = stack.enter_context(whole_nodes(pools, wait, say))
            begun = time.monotonic()
            say(f"starting {' and '.join(pool.name for pool in pools)}; models load with the first part")
            progress, metrics = Progress("mining", rows), RunMetrics(run.root.uri, rows)
            for report in stream(work, run, pools, recipe.run.parts_in_flight, groups):
                session.add(report)
                metrics.add(report)
                progress.add_part(report)
            progress.close()
        session.seconds = time.monotonic() - begun
    summary = summarize(session, stage_status(run, plan, stages), samples)
    run.write_summary(summary)
    return summary


def plan_work(
    recipe: Recipe,
    run: RunDirectory,
    stages: Sequence[Stage],
    start: Callable[[Location | None], None],
    say: Callable[[str], None],
    retry_failed: bool,
) -> tuple[pa.Table, pa.Table]:
    """Bring catalog, plan and run directory up to date.

    Args:
        recipe, run, stages, say, retry_failed: see `mine`.
        start: called before there is anything to do for Ray, with a file that will be read.

    Returns:
        The plan, and the parts of it that are left to do.

    Raises:
        ConnoteError: the source, the catalog or the run directory fails, or `start` refuses.
    """
    plan = refresh_catalog(recipe, run, start, say, retry_failed)
    work = work_left(run, plan, stages, retry_failed)
    if len(work):
        # A cluster that refuses the recipe does so before the run directory is changed.
        start(first_planned(run.catalog, plan))
    run.write_recipe(recipe)
    run.write_plan(plan)
    run.note_stages(recipe, stages)
    if set_aside(run, plan, stages, say):
        work = work_left(run, plan, stages, retry_failed)
    return plan, work
