"""One part on its way through the stages: its rows, its images, and what failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from engine.decoding import Look
from engine.errors import SampleError
from engine.generation.protocol import Picture
from engine.schema import CATALOG
from engine.stages.retry import Reseeded, note_retries, retries_of
from engine.stages.stage import Stage, Tally, columns_of

#: Cuts rows into slices that are asked one after the other.
Slices = Callable[[list[int]], AsyncIterator[list[int]]]


#: Between pools a part carries which rows failed in columns of these names.
_FAILED = "failed in "


def _cut(size: int) -> Slices:
    """Slices of so many rows; 0 is all of them in one."""

    async def cut(rows: list[int]) -> AsyncIterator[list[int]]:
        step = size or len(rows) or 1
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    return cut


@dataclass
class Part:
    """The state of one part: everything that a later stage or pool may need.

    `errors[i]` is why row i is given to no stage, or None; `failed` has, of each stage, the rows
    that the stages which need it skip. `images` are the encoded ones, in the memory that the part came
    in, or None if no stage from here on sees any. Decoded pictures are
    kept from stage to stage and dropped with the part, unless they may be of any size.
    """

    id: str
    rows: list[dict[str, Any]]
    images: pa.LargeBinaryArray | None
    errors: list[str | None]
    failed: dict[str, set[int]] = field(default_factory=dict)
    _pictures: dict[tuple[int, Look], Picture | SampleError] = field(default_factory=dict)

    @classmethod
    def of(cls, part: str, table: pa.Table) -> Part:
        """Take up a part's table: catalog columns, `image`, and those of stages before."""
        images = table["image"].chunk(0) if "image" in table.column_names else None
        failed = {
            name.removeprefix(_FAILED): set(np.flatnonzero(table[name]).tolist())
            for name in table.column_names
            if name.startswith(_FAILED)
        }
        no_fields = [name for name in table.column_names if name in ("image", "error") or _FAILED in name]
        rows = table.drop_columns(no_fields).to_pylist()
        return cls(part, rows, images, table["error"].to_pylist(), failed)

    def attach(self, stage: Stage, table: pa.Table) -> None:
        """Take over a stage's table: its columns, and which rows failed, for the stages after it."""
        for name in columns_of(stage):
            for row, value in zip(self.rows, table[name].to_pylist(), strict=True):
                row[name] = value
        self.failed[stage.name] = {i for i, e in enumerate(table["error"].to_pylist()) if e is not None}

    def why_not(self, stage: Stage, row: int) -> str | None:
        """Why the stage is not given the row, or None."""
        for need in stage.needs:
            if row in self.failed.get(need, ()):
                return f"skipped: {need} failed"
        return self.errors[row]

    def to_table(self, stages: Sequence[Stage], images: bool) -> pa.Table:
        """The part for the next pool: catalog columns, the stages' columns, `image` if wanted."""
        fields = [field for field in CATALOG if field.name != "error"]
        fields += [stage.schema.field(name) for stage in stages for name in columns_of(stage)]
        table = pa.Table.from_pylist(self.rows, schema=pa.schema(fields))
        table = table.append_column(CATALOG.field("error"), pa.array(self.errors, pa.string()))
        for name, failed in self.failed.items():
            table = table.append_column(
                f"{_FAILED}{name}", pa.array([i in failed for i in range(len(table))])
            )
        return table.append_column("image", self.images) if images else table

    async def run(
        self,
        stage: Stage,
        engine: Callable[[], Awaitable[Any]],
        threads: Executor,
        tally: Tally,
        before: pa.Table | None = None,
        slices: Slices | None = None,
        blamed: Mapping[int, str] = MappingProxyType({}),
    ) -> pa.Table:
        """Run the stage on the good rows.

        Args:
            stage: the stage to run.
            engine: gives what the stage computes with; called only if there is something to do.
            threads: where they are decoded.
            tally: counts what the stage does.
            before: an earlier table of the stage; its good rows are kept and only its error rows
                are computed again.
            slices: which of the good rows are computed together, one slice after the other; by
                default as many as the stage takes at once.
            blamed: rows that are not to be tried any more, and why.

        Returns:
            The stage's table, one row per row of the part, in order.
        """
        retries = retries_of(before) + 1 if before is not None else 0
        kept = before.to_pylist() if before is not None else [None] * len(self.rows)
        open_rows = [i for i, old in enumerate(kept) if old is None or old["error"] is not None]
        results: dict[int, dict[str, Any]] = {}
        for i in open_rows:
            if reason := self.why_not(stage, i) or blamed.get(i):
                results[i] = {"error": reason}
        good = [i for i in open_rows if i not in results]
        cut = (slices or _cut(stage.rows_at_once)) if good else _cut(0)
        async for slice_ in cut(good):
            some, pictures = await self._decode(slice_, stage, threads, results)
            if some:
                source = await engine()
                source = Reseeded(source, retries) if retries and stage.engine != "embed" else source
                made = await stage.run([self.rows[i] for i in some], pictures, source, tally)
                results.update(zip(some, made, strict=True))
        tally.rows = len(open_rows)
        rows = [
            {"id": row["id"], "key": row["key"], **results[i]} if i in results else kept[i]
            for i, row in enumerate(self.rows)
        ]
        return note_retries(pa.Table.from_pylist(rows, schema=stage.schema), retries)

    def _image(self, row: int) -> pa.Buffer:
        found = None if self.images is None else self.images[row].as_buffer()
        return pa.py_buffer(b"") if found is None else found

    async def _decode(
        self, wanted: list[int], stage: Stage, threads: Executor, results: dict[int, dict[str, Any]]
    ) -> tuple[list[int], Sequence[Picture | None]]:
        """Decode what is not decoded yet; rows whose image cannot be are given their error."""
        look = stage.look if stage.sees_images else None
        if look is None:
            return wanted, [None] * len(wanted)
        loop = asyncio.get_running_loop()
        new = [i for i in wanted if (i, look) not in self._pictures]
        decoded = await asyncio.gather(
            *(loop.run_in_executor(threads, _picture, self.rows[i]["id"], self._image(i), look) for i in new)
        )
        found = {i: self._pictures[i, look] for i in wanted if (i, look) in self._pictures}
        found.update(zip(new, decoded, strict=True))
        if not look.full:
            self._pictures.update({(i, look): picture for i, picture in found.items()})
        good: list[int] = []
        pictures: list[Picture | None] = []
        for i in wanted:
            match found[i]:
                case Picture() as picture:
                    good.append(i)
                    pictures.append(picture)
                case SampleError() as error:
                    results[i] = {"error": str(error)}
        return good, pictures


def _picture(sample: str, data: pa.Buffer, look: Look) -> Picture | SampleError:
    """Decode one image. Runs on a thread."""
    try:
        return Picture(sample, look.picture(data))
    except SampleError as error:
        return error
