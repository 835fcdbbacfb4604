"""One part on its way through the stages: its rows, its images, and what failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from PIL import Image

from engine.decoding import decode
from engine.errors import SampleError
from engine.generation.protocol import Generator, Picture
from engine.recipe import Images
from engine.schema import CATALOG
from engine.stages.retry import Reseeded, note_retries, retries_of
from engine.stages.stage import Stage, Tally, columns_of

#: Cuts rows into slices that are asked one after the other.
Slices = Callable[[list[int]], AsyncIterator[list[int]]]


async def at_once(rows: list[int]) -> AsyncIterator[list[int]]:
    """All rows in one slice."""
    yield rows


@dataclass
class Part:
    """The state of one part: everything that a later stage or pool may need.

    `errors[i]` is None while row i is good; a later stage skips it otherwise. `images[i]` are
    the encoded bytes; decoded pictures are kept from stage to stage and dropped with the part.
    """

    id: str
    rows: list[dict[str, Any]]
    images: list[bytes | None]
    errors: list[str | None]
    _pictures: dict[int, Picture | SampleError] = field(default_factory=dict)

    @classmethod
    def of(cls, part: str, table: pa.Table) -> Part:
        """Take up a part's table: catalog columns, `image`, and those of stages before."""
        images = table["image"].to_pylist() if "image" in table.column_names else [None] * len(table)
        rows = table.drop_columns([n for n in ("image", "error") if n in table.column_names]).to_pylist()
        return cls(part, rows, images, table["error"].to_pylist())

    def fail(self, reason: str, rows: Collection[int] | None = None) -> None:
        """Give up these rows, or all, as far as they are still good."""
        for index, error in enumerate(self.errors):
            if error is None and (rows is None or index in rows):
                self.errors[index] = reason

    def attach(self, stage: Stage, table: pa.Table) -> None:
        """Take over a stage's table: its columns, and its errors for the stages after it."""
        for name in columns_of(stage):
            for row, value in zip(self.rows, table[name].to_pylist(), strict=True):
                row[name] = value
        for index, error in enumerate(table["error"].to_pylist()):
            self.errors[index] = None if error is None else f"skipped: {stage.name} failed"

    def to_table(self, stages: Sequence[Stage], images: bool) -> pa.Table:
        """The part for the next pool: catalog columns, the stages' columns, `image` if wanted."""
        fields = [field for field in CATALOG if field.name != "error"]
        fields += [stage.schema.field(name) for stage in stages for name in columns_of(stage)]
        table = pa.Table.from_pylist(self.rows, schema=pa.schema(fields))
        table = table.append_column(CATALOG.field("error"), pa.array(self.errors, pa.string()))
        return table.append_column("image", pa.array(self.images, pa.binary())) if images else table

    async def run(
        self,
        stage: Stage,
        generator: Callable[[], Awaitable[Generator]],
        images: Images,
        threads: Executor,
        tally: Tally,
        before: pa.Table | None = None,
        slices: Slices = at_once,
    ) -> pa.Table:
        """Run the stage on the good rows.

        Args:
            stage: the stage to run.
            generator: gives what the stage asks; called only if there is something to ask.
            images: how images are decoded.
            threads: where they are decoded.
            tally: counts what the stage does.
            before: an earlier table of the stage; its good rows are kept and only its error rows
                are computed again.
            slices: which of the good rows are asked together, one slice after the other.

        Returns:
            The stage's table, one row per row of the part, in order.
        """
        retries = retries_of(before) + 1 if before is not None else 0
        kept = before.to_pylist() if before is not None else [None] * len(self.rows)
        open_rows = [i for i, old in enumerate(kept) if old is None or old["error"] is not None]
        results: dict[int, dict[str, Any]] = {
            i: {"error": self.errors[i]} for i in open_rows if self.errors[i]
        }
        good = [i for i in open_rows if i not in results]
        pictures: list[Picture | None] = [None] * len(good)
        if stage.sees_images:
            good, pictures = await self._decode(good, images, threads, results)
        if good:
            source = await generator()
            if retries:
                source = Reseeded(source, retries)
            shown = dict(zip(good, pictures, strict=True))
            async for some in slices(good):
                made = await stage.run([self.rows[i] for i in some], [shown[i] for i in some], source, tally)
                results.update(zip(some, made, strict=True))
        tally.rows = len(open_rows)
        rows = [
            {"id": row["id"], "key": row["key"], **results[i]} if i in results else kept[i]
            for i, row in enumerate(self.rows)
        ]
        return note_retries(pa.Table.from_pylist(rows, schema=stage.schema), retries)

    async def _decode(
        self, wanted: Sequence[int], images: Images, threads: Executor, results: dict[int, dict[str, Any]]
    ) -> tuple[list[int], list[Picture | None]]:
        """Decode what is not decoded yet; rows whose image cannot be are given their error."""
        loop = asyncio.get_running_loop()
        new = [i for i in wanted if i not in self._pictures]
        decoded = await asyncio.gather(
            *(
                loop.run_in_executor(threads, _picture, self.rows[i]["id"], self.images[i], images)
                for i in new
            )
        )
        self._pictures.update(zip(new, decoded, strict=True))
        good: list[int] = []
        pictures: list[Picture | None] = []
        for i in wanted:
            match self._pictures[i]:
                case Picture() as picture:
                    good.append(i)
                    pictures.append(picture)
                case SampleError() as error:
                    results[i] = {"error": str(error)}
        return good, pictures


def _picture(sample: str, data: bytes | None, images: Images) -> Picture | SampleError:
    """Decode one image and scale it down to the models' size. Runs on a thread."""
    side = images.max_side
    try:
        image = decode(data or b"", images.max_pixels, (side, side))
    except SampleError as error:
        return error
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return Picture(sample, image)
