"""What a run directory says about itself: done, failed, to do. Reads files only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from engine.rundir import RunDirectory
from engine.stages import Stage

Found = TypeVar("Found")


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
    return _each(run, stages, partial(_status, run, plan))


def work_left(run: RunDirectory, plan: pa.Table, stages: Sequence[Stage], retry_failed: bool) -> pa.Table:
    """The parts of the plan that some stage has not committed, in the plan's order.

    With `retry_failed` also those with error rows in any stage.
    """
    left = pa.array([not stages] * len(plan), pa.bool_())
    for finished in _each(run, stages, partial(_finished, run, plan, retry_failed)):
        left = pc.or_(left, pc.invert(finished))
    return plan.filter(left)


def set_aside(run: RunDirectory, plan: pa.Table, stages: Sequence[Stage], say: Callable[[str], None]) -> bool:
    """Leave in the stages' directories only the tables of planned parts; see `StageTables`.

    Returns:
        Whether tables of planned parts came back, so that less is left to do than before.
    """
    planned = set(plan["part"].to_pylist())
    counts = _each(run, stages, lambda stage: run.tables(stage).set_aside(planned))
    for stage, (moved, _) in zip(stages, counts, strict=True):
        if moved:
            say(f"{stage.name}: {moved:,} tables of parts that are not planned any more moved to _aside/")
    return any(back for _, back in counts)


def _each(run: RunDirectory, stages: Sequence[Stage], function: Callable[[Stage], Found]) -> list[Found]:
    """What a function that lists a stage's directory gives of each stage.

    An object store lists a thousand names a request, one request after the other: there all stages
    are listed at once. On a disk one after the other is faster, and holds one list at a time.
    """
    with ThreadPoolExecutor(1 if run.root.is_local else max(1, len(stages))) as threads:
        return list(threads.map(function, stages))


def _status(run: RunDirectory, plan: pa.Table, stage: Stage) -> StageStatus:
    tables = run.tables(stage)
    listed, noted = tables.listed()
    done = _among(plan, listed)
    rows, rows_done = (int(pc.sum(some).as_py() or 0) for some in (plan["rows"], plan["rows"].filter(done)))
    failed: Counter[str] = Counter()
    for _, reasons in tables.failures_of(plan["part"].filter(pc.and_(done, _among(plan, noted))).to_pylist()):
        failed.update(reasons)
    parts_done = int(pc.sum(done).as_py() or 0)
    reasons = dict(failed.most_common())
    return StageStatus(stage.name, stage.fingerprint, len(plan), parts_done, rows, rows_done, reasons)


def _finished(run: RunDirectory, plan: pa.Table, retry_failed: bool, stage: Stage) -> pa.ChunkedArray:
    """Which of the plan's parts the stage need not compute."""
    done, failed = run.tables(stage).listed()
    return _among(plan, done - failed if retry_failed else done)


def _among(plan: pa.Table, parts: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(plan["part"], value_set=pa.array(list(parts), pa.string()))
