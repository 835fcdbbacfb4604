"""What a stage is, and how one part goes through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from engine.decoding import Look
from engine.generation.protocol import Picture

#: A sample as a dictionary: the catalog's columns and those of the stages before.
Row = Mapping[str, Any]


@dataclass
class Tally:
    """What a stage did, beside its table: for the summary, never for the output."""

    rows: int = 0
    requests: int = 0
    output_tokens: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def flag(self, reason: str, number: int = 1) -> None:
        """Count items that were kept although they failed a check."""
        if number:
            self.flags[reason] = self.flags.get(reason, 0) + number

    def count(self, what: str, number: int = 1) -> None:
        """Count items made, such as captions."""
        self.counts[what] = self.counts.get(what, 0) + number


class Stage(Protocol):
    """A pure function from a part's good rows to one result row each.

    A stage holds settings only, so it travels to any process; what it needs to compute with is
    given to `run`. It never sees rows that failed before.
    """

    @property
    def name(self) -> str:
        """The stage's name, as its section in the recipe."""
        ...

    @property
    def fingerprint(self) -> str:
        """The digest of everything that decides the stage's output."""
        ...

    @property
    def engine(self) -> str:
        """What it computes with, by its place in the recipe: `generators.NAME`, or `embed`."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose columns it reads: it skips rows that failed there."""
        ...

    @property
    def carries(self) -> bool:
        """Whether its columns travel with the part, for the stages after it."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """The schema of its table: `id`, `key`, its columns, `error`."""
        ...

    @property
    def sees_images(self) -> bool:
        """Whether `run` needs the decoded images."""
        ...

    @property
    def look(self) -> Look | None:
        """At which size it sees them; asked only of a stage that does."""
        ...

    @property
    def rows_at_once(self) -> int:
        """Rows that `run` is given at once; 0 is all of the part."""
        ...

    async def run(
        self, rows: Sequence[Row], pictures: Sequence[Picture | None], engine: Any, tally: Tally, /
    ) -> list[dict[str, Any]]:
        """Compute the stage's columns for each row, in order; `error` says why a row has none.

        Args:
            rows: the samples.
            pictures: their images, each None if the stage sees none.
            engine: the pool's generator or its encoders.
            tally: counts what is done.
        """
        ...


def columns_of(stage: Stage) -> list[str]:
    """The columns that the stage adds to a sample on its way."""
    if not stage.carries:
        return []
    return [name for name in stage.schema.names if name not in ("id", "key", "error")]
