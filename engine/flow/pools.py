"""Which stages run in one pool of actors, and what such an actor does with a part."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.errors import EngineDied
from engine.flow.report import PartReport, StageReport
from engine.flow.turns import Turns
from engine.generation import build_generator
from engine.generation.protocol import Generator
from engine.recipe import Images, OpenAI, Recipe, Scripted, Vllm
from engine.rundir import RunDirectory
from engine.stages import Part, Stage, Tally

#: A part that was there each of so many times when its engine died is not tried again: one image
#: that kills the engine must not keep the run from ending.
MAX_DEATHS = 3
#: The status with which an actor leaves when its engine is dead.
ENGINE_DIED = 13


@dataclass(frozen=True)
class Pool:
    """Consecutive stages that name the same generator share its actors, weights and caches."""

    name: str
    settings: Vllm | OpenAI | Scripted
    images: Images
    run: RunDirectory
    stages: tuple[Stage, ...]
    before: tuple[Stage, ...]  # the stages of the pools before
    images_needed_after: bool
    last: bool
    retry_failed: bool


def plan_pools(recipe: Recipe, run: RunDirectory, stages: Sequence[Stage], retry_failed: bool) -> list[Pool]:
    """Group the stages into pools, in order."""
    groups: list[list[Stage]] = []
    for stage in stages:
        if groups and groups[-1][-1].generator == stage.generator:
            groups[-1].append(stage)
        else:
            groups.append([stage])
    pools, before = [], list[Stage]()
    for index, group in enumerate(groups):
        later = [stage for following in groups[index + 1 :] for stage in following]
        pools.append(
            Pool(
                name=f"{group[0].generator} ({', '.join(stage.name for stage in group)})",
                settings=recipe.generators[group[0].generator],
                images=recipe.images,
                run=run,
                stages=tuple(group),
                before=tuple(before),
                images_needed_after=any(stage.sees_images for stage in later),
                last=not later,
                retry_failed=retry_failed,
            )
        )
        before += group
    return pools


class PoolActor:
    """Takes parts through the stages of one pool, several at a time.

    The generator is built by the first part that needs it, so a pool whose tables are all
    committed loads no model.
    """

    def __init__(self, pool: Pool, deaths: Any) -> None:
        self.pool = pool
        self.deaths = deaths  # a handle on the session's `DeathCount`
        self.turns = Turns()
        self.threads = ThreadPoolExecutor(max(2, round(pool.settings.cpus)), "decode")
        self.generator: Generator | None = None
        self.building = asyncio.Lock()
        self.started = time.monotonic()
        # A part's rows are a hundred thousand small objects that live until it is committed;
        # looking through them for garbage at Python's usual pace took a fifth of the time.
        gc.set_threshold(100_000, 50, 100)

    async def __call__(self, table: pa.Table) -> pa.Table:
        """Run the pool's stages on a part; returns the part, or from the last pool its report."""
        report = PartReport.from_json(table["report"][0].as_py())
        part = Part.of(report.part, table.drop_columns(["report"]))
        deaths = await self.deaths.begin.remote(part.id, alone=False)
        async with self.turns.take(alone=deaths > 0):
            if deaths:
                await self.deaths.begin.remote(part.id, alone=True)
            for stage in self.pool.stages:
                report.stages[stage.name] = await self._advance(part, stage, deaths)
            await self.deaths.end.remote(part.id)
        if self.generator is not None:
            meter = {**self.generator.meter.snapshot(), "alive_s": time.monotonic() - self.started}
            report.meters[self.pool.name] = {f"{os.uname().nodename}:{os.getpid()}": meter}
        if self.pool.last:
            return pa.table({"report": [report.to_json()]})
        onward = part.to_table((*self.pool.before, *self.pool.stages), self.pool.images_needed_after)
        return with_report(onward, report)

    async def _advance(self, part: Part, stage: Stage, deaths: int) -> StageReport:
        """Attach the stage's committed table, or make, commit and attach it."""
        tables = self.pool.run.tables(stage)
        done = await asyncio.to_thread(tables.read, part.id, stage.schema)
        again = done is not None and self.pool.retry_failed and done["error"].null_count < len(done)
        report = StageReport()
        if done is None or again:
            tally, started = Tally(), time.monotonic()
            made = await self._run(part, stage, tally, done, deaths)
            await asyncio.to_thread(tables.commit, part.id, made)
            report.add(tally)
            report.computed = len(made) if done is None else len(done) - done["error"].null_count
            report.seconds = time.monotonic() - started
            done = made
        assert done is not None
        report.failed = dict(Counter(reason for reason in done["error"].to_pylist() if reason is not None))
        part.attach(stage, done)
        return report

    async def _run(
        self, part: Part, stage: Stage, tally: Tally, before: pa.Table | None, deaths: int
    ) -> pa.Table:
        if deaths >= MAX_DEATHS:
            part.fail(f"the engine died {deaths} times on this part")
        try:
            generator = await self._generator()
            return await part.run(stage, generator, self.pool.images, self.threads, tally, before)
        except EngineDied as error:
            # An actor that lives on with a dead engine would take part after part and fail them
            # all. Leaving the process makes Ray start another and give it this one's parts.
            print(
                f"{self.pool.name}: {error}; this actor leaves and is replaced", file=sys.stderr, flush=True
            )
            os._exit(ENGINE_DIED)

    async def _generator(self) -> Generator:
        async with self.building:
            if self.generator is None:
                self.generator = build_generator(self.pool.stages[0].generator, self.pool.settings)
            return self.generator


def with_report(table: pa.Table, report: PartReport) -> pa.Table:
    """Put the report beside the part: in the first row, null in the others."""
    texts = pa.array([report.to_json()] + [None] * (len(table) - 1), pa.string())
    return table.append_column("report", texts)
