"""What an actor of a pool does with a part: its stages, beside other parts, on an engine that may die."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from engine.errors import EngineDied, RecipeError, StorageError
from engine.flow.deaths import MAX_CONVICTED, MAX_DEATHS, PROBE, Case, slices
from engine.flow.parcel import pack, unpack
from engine.flow.pools import Pool
from engine.flow.report import PartReport, StageReport
from engine.flow.turns import Turns
from engine.generation import build_generator
from engine.generation.protocol import Generator, Request
from engine.priority import give_way
from engine.recipe import Embed, Sampling
from engine.stages import Part, Slices, Stage, Tally

if TYPE_CHECKING:  # which imports torch
    from engine.encoders.bank import EncoderBank

#: What an engine is asked before it is shown a part that saw one die.
_HARMLESS = Request("probe", ("Say yes.",), Sampling(max_tokens=1), seed=0)
#: The status with which an actor leaves when its engine is dead.
ENGINE_DIED = 13


class PoolActor:
    """Takes parts through the stages of one pool, several at a time.

    The engine, a generator or a bank of encoders, is built by the first part that needs it, so a
    pool whose tables are all committed loads no model.
    """

    def __init__(self, pool: Pool, deaths: Any, turnstile: Any) -> None:
        self.pool = pool
        self.deaths = deaths  # a handle on the session's `Deaths`
        self.turnstile = turnstile  # a handle on its `Turnstile`
        self.turns = Turns()
        beside = give_way if pool.embeds_on_processors else None
        self.threads = ThreadPoolExecutor(max(2, round(pool.settings.cpus)), "decode", beside)
        self.engine: Generator | EncoderBank | None = None
        self.building = asyncio.Lock()
        self.started = time.monotonic()
        # A part's rows are a hundred thousand small objects that live until it is committed;
        # looking through them for garbage at Python's usual pace took a fifth of the time.
        gc.set_threshold(100_000, 50, 100)

    async def __call__(self, block: pa.Table) -> pa.Table:
        """Run the pool's stages on a part; returns the part, or from the last pool its report."""
        report, table = unpack(block)
        part = Part.of(report.part, table)
        try:
            await self._take_turn(part, report)
        except EngineDied as error:
            # An actor that lives on with a dead engine would take part after part and fail them
            # all. Leaving the process makes Ray start another and give it this one's parts.
            print(
                f"{self.pool.name}: {error}; this actor leaves and is replaced", file=sys.stderr, flush=True
            )
            await self.deaths.died.remote(self.pool.engine, str(error))
            os._exit(ENGINE_DIED)
        if self.engine is not None:
            meter = {**self.engine.meter.snapshot(), "alive_s": time.monotonic() - self.started}
            report.meters[self.pool.name] = {f"{os.uname().nodename}:{os.getpid()}": meter}
        if self.pool.last:
            return pack(report)
        stages = (*self.pool.before, *self.pool.stages)
        return pack(report, part.to_table(stages, self.pool.images_needed_after))

    async def _take_turn(self, part: Part, report: PartReport) -> None:
        """Run the stages beside other parts; alone if an engine died when the part was there."""
        first = await self.deaths.begin.remote(part.id)
        async with self.turns.take(alone=not first):
            case = None if first else await self.deaths.begin_alone.remote(part.id)
            if case is not None and case.outage:
                raise StorageError(_outage(self.pool.engine, await self._reason()))
            for stage in self.pool.stages:
                report.stages[stage.name] = await self._advance(part, stage, case)
            await self.deaths.end.remote(part.id)

    async def _advance(self, part: Part, stage: Stage, case: Case | None) -> StageReport:
        """Attach the stage's committed table, or make, commit and attach it."""
        tables = self.pool.run.tables(stage)
        wanted = None if stage.carries or self.pool.retry_failed else ["error"]
        done = await asyncio.to_thread(tables.read, part.id, stage.schema, len(part.rows), wanted)
        again = done is not None and self.pool.retry_failed and done["error"].null_count < len(done)
        report = StageReport()
        if done is None or again:
            tally, started = Tally(), time.monotonic()
            blamed: dict[int, str] = {}
            watched: Slices | None = None
            if case is not None:
                blamed = _blamed(len(part.rows), case, await self._reason())
                watched = partial(self._watched, part, case)
            made = await part.run(stage, self._engine, self.threads, tally, done, watched, blamed)
            done = await asyncio.to_thread(tables.commit, part.id, made, replace=again)
            report.add(tally)
            report.computed = tally.rows
            report.seconds = time.monotonic() - started
        assert done is not None
        report.failed = dict(Counter(reason for reason in done["error"].to_pylist() if reason is not None))
        part.attach(stage, done)
        return report

    async def _watched(self, part: Part, case: Case, rows: list[int]) -> AsyncIterator[list[int]]:
        """The rows in slices, each noted before it is shown to the engine, in case that dies of it.

        An engine that dies of a harmless request is not dead because of the part.
        """
        await self.deaths.at_engine.remote(part.id, PROBE)
        await _probe(await self._engine())
        for some in slices(rows, case.suspects):
            await self.deaths.at_engine.remote(part.id, some)
            yield some

    async def _reason(self) -> str:
        return str(await self.deaths.reason.remote(self.pool.engine))

    async def _engine(self) -> Generator | EncoderBank:
        async with self.building:
            if self.engine is None:
                await self._fetch_weights()
                try:
                    self.engine = _build(self.pool)
                except RecipeError as error:
                    # Another one started from the same settings, so it is not they that are wrong.
                    if await self.deaths.has_started.remote(self.pool.engine):
                        raise EngineDied(str(error)) from error
                    raise
                await self.deaths.started.remote(self.pool.engine)
            return self.engine

    async def _fetch_weights(self) -> None:
        """Have them on this node, fetched by one of its actors."""
        about = ray.get_runtime_context()
        for weights in self.pool.weights:
            turn = about.get_node_id(), weights, about.get_actor_id()
            if await self.turnstile.enter.remote(*turn):
                there = await asyncio.to_thread(weights.fetch)
                await self.turnstile.leave.remote(*turn, there)


def _build(pool: Pool) -> Generator | EncoderBank:
    if isinstance(pool.settings, Embed):
        from engine.encoders.bank import EncoderBank

        return EncoderBank(pool.settings)
    return build_generator(pool.engine.removeprefix("generators."), pool.settings)


async def _probe(engine: Any) -> None:
    """Have an engine do something that is no part's fault."""
    if hasattr(engine, "probe"):
        await engine.probe()
    else:
        await engine.generate([_HARMLESS])


def _blamed(rows: int, case: Case, reason: str) -> dict[int, str]:
    """Why rows that kill engines are not tried again; why none is, if the part is given up."""
    rest = None
    if len(case.convicted) > MAX_CONVICTED:
        rest = f"more than {MAX_CONVICTED} samples of this part kill the engine: {reason}"
    elif case.given_up:
        rest = f"the engine died {case.deaths} times on this part: {reason}"
    blamed = dict.fromkeys(range(rows), rest) if rest else {}
    return {**blamed, **dict.fromkeys(case.convicted, f"the engine died on this sample: {reason}")}


def _outage(engine: str, reason: str) -> str:
    return (
        f"{engine}: the engine died {MAX_DEATHS} times before it answered anything, the last "
        f"time because: {reason}; mend that and run the command again, finished parts are kept"
    )
