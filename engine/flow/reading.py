"""The plan as a Ray Data source: its tasks read parts, one block each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from engine.catalog import read_part
from engine.flow.parcel import pack
from engine.flow.report import PartReport
from engine.planning.placing import Demand
from engine.rundir import RunDirectory

#: What a task that reads parts reserves: reading waits on storage more than it computes. An odd
#: figure that no pool will have: Ray would fuse reading into a pool that reserves as much, and
#: parts would no longer be read ahead of a busy engine.
READ_CPUS = 0.45
READING = Demand("reading", READ_CPUS, most=1)
#: Each reads the parts of a slice of the plan, one after the other. A task a part would take the
#: driver a minute and hundreds of MiB to set up for 100,000 parts; 2,000 tasks take seconds.
MAX_READ_TASKS = 2000


class PartSource(Datasource):  # type: ignore[misc]
    """Reads the parts of `work` (rows of the plan): catalog rows and encoded images.

    A source of its own, and not `ray.data.range` with a function mapped over it: the range would
    be an operator beside that function, whose tasks reserve a whole CPU each, and a cluster whose
    pools leave less than that would wait for ever.
    """

    def __init__(self, work: pa.Table, run: RunDirectory) -> None:
        self._rows, self._run = len(work), run
        self._before = np.concatenate([[0], np.cumsum(work["bytes"].to_numpy())])
        self._plan = ray.put(work)

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all images."""
        return int(self._before[-1])

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """At most `MAX_READ_TASKS`, each of consecutive parts."""
        tasks = min(self._rows, MAX_READ_TASKS)
        edges = [index * self._rows // tasks for index in range(tasks + 1)] if tasks else [0]
        made = []
        for start, end in pairwise(edges):
            size = int(self._before[end] - self._before[start])
            about = BlockMetadata(num_rows=end - start, size_bytes=size, exec_stats=None)
            made.append(ReadTask(partial(_read, self._plan, self._run, start, end), about))
        return made


def _read(plan: Any, run: RunDirectory, start: int, end: int) -> Iterator[pa.Table]:
    work: pa.Table = ray.get(plan)
    for row in work.slice(start, end - start).to_pylist():
        table = read_part(run.catalog / row["catalog"], row["start"], row["rows"], row["part"])
        yield pack(PartReport(row["part"], len(table)), table)
