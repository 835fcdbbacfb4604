"""What a stage is, and how one part goes through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from engine.generation.protocol import Generator, Picture

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

    def flag(self, reason: str) -> None:
        """Count an item that was kept although it failed a check."""
        self.flags[reason] = self.flags.get(reason, 0) + 1

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
    def generator(self) -> str:
        """The name of the generator it uses."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """The schema of its table: `id`, `key`, its columns, `error`."""
        ...

    @property
    def sees_images(self) -> bool:
        """Whether `run` needs the decoded images."""
        ...

    async def run(
        self, rows: Sequence[Row], pictures: Sequence[Picture | None], generator: Generator, tally: Tally
    ) -> list[dict[str, Any]]:
        """Compute the stage's columns for each row, in order; `error` says why a row has none."""
        ...


def columns_of(stage: Stage) -> list[str]:
    """The columns that the stage adds to a sample."""
    return [name for name in stage.schema.names if name not in ("id", "key", "error")]
