"""A stage's directory of part tables: commit once, by name."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from engine.errors import StorageError
from engine.storage.location import Location

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

    def _note(self, part: str) -> Location:
        return self.directory / f"_{part}{_FAILED}"

    def done(self) -> set[str]:
        """The parts whose tables are committed."""
        return {n.removesuffix(".parquet") for n in self.directory.names() if n.endswith(".parquet")}

    def failed(self) -> set[str]:
        """The parts whose tables hold error rows."""
        names = self.directory.names()
        return {n.removeprefix("_").removesuffix(_FAILED) for n in names if n.endswith(_FAILED)}

    def failures(self, part: str) -> dict[str, int]:
        """The reasons of the part's error rows, and how many rows each has."""
        note = self._note(part)
        return json.loads(note.read_text()) if note.exists() else {}

    def commit(self, part: str, table: pa.Table) -> None:
        """Write the part's table; replaces one that is there, for example after a retry."""
        note = self._note(part)
        reasons = Counter(reason for reason in table["error"].to_pylist() if reason is not None)
        if reasons:
            note.write_bytes(json.dumps(dict(sorted(reasons.items())), ensure_ascii=False).encode())
        self.table(part).write_table(table)
        if not reasons:
            note.delete()

    def read(self, part: str, schema: pa.Schema) -> pa.Table | None:
        """The committed table, or None if the part is not done.

        Raises:
            StorageError: the table is there but is not this stage's.
        """
        place = self.table(part)
        if not place.exists():
            return None
        table = place.read_table()
        if not table.schema.equals(schema):
            raise StorageError(
                f"{place.uri}: holds other columns than this version writes; delete it to redo the part"
            )
        return table
