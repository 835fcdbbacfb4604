"""A stage's directory of part tables: commit once, by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from engine.errors import StorageError
from engine.storage.location import Location
from engine.storage.many import each_of

_FAILED = ".failed.json"


@dataclass(frozen=True)
class StageTables:
    """The tables of one stage, `<name>-<fingerprint>/<part>.parquet`.

    A table's presence means that its part is done. Beside a table that holds error rows lies
    `_<part>.failed.json` with the reasons and their counts, so that a listing shows what failed;
    readers of Parquet directories pass over names that begin with an underscore.
    The note is written before the table and deleted after one without errors: a crash in between
    leaves at worst a note too many, which the next retry deletes.
    """

    directory: Location

    @classmethod
    def of(cls, run: Location, name: str, fingerprint: str) -> StageTables:
        """The tables of the stage `name` in the run directory."""
        return cls(run / "stages" / f"{name}-{fingerprint}")

    def table(self, part: str) -> Location:
        """Where the part's table lies once it is committed."""
        return self.directory / f"{part}.parquet"

    def listed(self) -> tuple[set[str], set[str]]:
        """The parts whose tables are committed, and those whose tables hold error rows: one listing."""
        names = self.directory.names()
        failed = {n.removeprefix("_").removesuffix(_FAILED) for n in names if n.endswith(_FAILED)}
        return {n.removesuffix(".parquet") for n in names if n.endswith(".parquet")}, failed

    def done(self) -> set[str]:
        """The parts whose tables are committed."""
        return self.listed()[0]

    def failed(self) -> set[str]:
        """The parts whose tables hold error rows."""
        return self.listed()[1]

    def failures(self, part: str) -> dict[str, int]:
        """The reasons of the part's error rows, and how many rows each has."""
        note = self._note(part).read_if_there()
        return json.loads(note) if note is not None else {}

    def failures_of(self, parts: Iterable[str]) -> Iterator[tuple[str, dict[str, int]]]:
        """Parts in the order of their names, each with its `failures`; many at once."""
        ordered = sorted(parts)
        return zip(ordered, each_of(self.failures, ordered), strict=True)

    def commit(self, part: str, table: pa.Table, replace: bool = False) -> pa.Table:
        """Write the part's table and return the one that then stands.

        A table that another writer committed meanwhile (an actor that outlived its driver, a task
        that Ray ran twice) stands, because later stages may have been made from it; `replace`,
        for a retry, puts the new one in its place.
        """
        note, reasons = self._note(part), _reasons(table)
        if not replace and self.table(part).exists():
            return self.table(part).read_table()
        if reasons:
            self._write_note(part, reasons)
        if not self.table(part).write_table(table, replace=replace):
            table = self.table(part).read_table()
            reasons = _reasons(table)
        if not reasons and note.exists():
            note.delete()
            # Between the write and the delete another writer may have put its error rows.
            if left := _reasons(self.table(part).read_table(["error"])):
                self._write_note(part, left)
        return table

    def set_aside(self, plan: Collection[str]) -> tuple[int, int]:
        """Keep only tables of the `plan` in view; returns how many moved out of it, and how many back.

        Parts that are no longer planned (their shard changed or went, or parts are cut in other
        sizes) move to `_aside/`, which readers of the directory pass over, so that they see every
        sample once. Planned parts that lie there come back.
        """
        aside, done = StageTables(self.directory / "_aside"), self.done()
        stray = done.difference(plan)
        for part in sorted(stray):
            self._move(part, aside)
        back = aside.done().intersection(plan) - done
        for part in sorted(back):
            aside._move(part, self)
        return len(stray), len(back)

    def read(
        self, part: str, schema: pa.Schema, rows: int | None = None, columns: list[str] | None = None
    ) -> pa.Table | None:
        """The committed table, or these columns of it; None if the part is not done.

        Raises:
            StorageError: the table is there but is not this stage's, or has not `rows` rows.
        """
        place = self.table(part)
        if not place.exists():
            return None
        table = place.read_table(columns)
        expected = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        if not table.schema.equals(expected):
            raise StorageError(
                f"{place.uri}: holds other columns than this version writes; delete it to redo the part"
            )
        if rows is not None and len(table) != rows:
            raise StorageError(f"{place.uri}: holds {len(table)} rows of {rows}; delete it to redo the part")
        return table

    def _note(self, part: str) -> Location:
        return self.directory / f"_{part}{_FAILED}"

    def _write_note(self, part: str, reasons: dict[str, int]) -> None:
        self._note(part).write_bytes(json.dumps(reasons, ensure_ascii=False).encode())

    def _move(self, part: str, target: StageTables) -> None:
        """Move a table and its note; the note first, so that error rows are never without one."""
        for place, new in ((self._note(part), target._note(part)), (self.table(part), target.table(part))):
            if place.exists():
                place.move(new)


def _reasons(table: pa.Table) -> dict[str, int]:
    reasons = Counter(reason for reason in table["error"].to_pylist() if reason is not None)
    return dict(sorted(reasons.items()))
