"""What a run directory says about itself: done, failed, to do. Reads files only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from engine.rundir import RunDirectory
from engine.stages import Stage

#: Notes of failures that are read at once: on an object store each takes a round trip.
_THREADS = 32


@dataclass(frozen=True)
class StageStatus:
    """One stage of the run, as its directory shows it."""

    name: str
    fingerprint: str
    parts: int
    parts_done: int
    rows: int
    rows_done: int
    failed: dict[str, int] = field(default_factory=dict)  # error rows by reason

    @property
    def rows_failed(self) -> int:
        """The error rows of the stage's tables."""
        return sum(self.failed.values())

    @property
    def rows_to_do(self) -> int:
        """The rows that a resume would compute."""
        return self.rows - self.rows_done


def stage_status(run: RunDirectory, plan: pa.Table, stages: Sequence[Stage]) -> list[StageStatus]:
    """Compare the plan with the tables that are committed. Lists directories, opens no table."""
    rows = int(pc.sum(plan["rows"]).as_py() or 0)
    states = []
    for stage in stages:
        tables = run.tables(stage)
        done = pc.is_in(plan["part"], value_set=pa.array(sorted(tables.done()), pa.string()))
        rows_done = int(pc.sum(pc.filter(plan["rows"], done)).as_py() or 0)
        planned = set(pc.filter(plan["part"], done).to_pylist())
        failed: Counter[str] = Counter()
        with ThreadPoolExecutor(_THREADS) as threads:
            for reasons in threads.map(tables.failures, sorted(tables.failed() & planned)):
                failed.update(reasons)
        parts_done = int(pc.sum(done).as_py() or 0)
        states.append(
            StageStatus(
                stage.name,
                stage.fingerprint,
                len(plan),
                parts_done,
                rows,
                rows_done,
                dict(failed.most_common()),
            )
        )
    return states


def work_left(run: RunDirectory, plan: pa.Table, stages: Sequence[Stage], retry_failed: bool) -> pa.Table:
    """The parts of the plan that some stage has not committed, in the plan's order.

    With `retry_failed` also those with error rows in any stage.
    """
    complete: set[str] | None = None
    for stage in stages:
        tables = run.tables(stage)
        done = tables.done()
        if retry_failed:
            done -= tables.failed()
        complete = done if complete is None else complete & done
    finished = pc.is_in(plan["part"], value_set=pa.array(sorted(complete or ()), pa.string()))
    return plan.filter(pc.invert(finished))


def set_aside(run: RunDirectory, plan: pa.Table, stages: Sequence[Stage], say: Callable[[str], None]) -> None:
    """Leave in the stages' directories only the tables of planned parts; see `StageTables`."""
    planned = set(plan["part"].to_pylist())
    for stage in stages:
        tables = run.tables(stage)
        if moved := tables.set_aside(planned):
            say(f"{stage.name}: {moved:,} tables of parts that are not planned any more moved to _aside/")
