"""The run directory: where everything of a run lies, readable with `ls`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.errors import StorageError
from engine.recipe import Recipe, dump_recipe, parse_recipe
from engine.stages.stage import Stage
from engine.storage import Location, StageTables, locate


@dataclass(frozen=True)
class RunDirectory:
    """RUN/recipe.yaml, catalog/, plan.parquet, stages/<name>-<fingerprint>/, summary.json."""

    root: Location

    @classmethod
    def at(cls, uri: str) -> RunDirectory:
        """The run directory at a path or URI; nothing is created."""
        return cls(locate(uri))

    @property
    def catalog(self) -> Location:
        """The directory of the catalog's tables, one per shard."""
        return self.root / "catalog"

    @property
    def summary(self) -> Location:
        """The last session's figures and the state of the whole run, as JSON."""
        return self.root / "summary.json"

    @property
    def _recipe(self) -> Location:
        return self.root / "recipe.yaml"

    @property
    def _plan(self) -> Location:
        return self.root / "plan.parquet"

    def write_recipe(self, recipe: Recipe) -> None:
        """Keep the recipe beside what it makes."""
        self._recipe.write_bytes(dump_recipe(recipe).encode())

    def read_recipe(self) -> Recipe:
        """The recipe of the last run in this directory.

        Raises:
            StorageError: this is no run directory.
        """
        if not self._recipe.exists():
            raise StorageError(
                self.root.without_bucket()
                or f"{self.root.uri}: no run directory (it holds no recipe.yaml); name the run's `out`"
            )
        return parse_recipe(self._recipe.read_text(), origin=self._recipe.uri)

    def write_plan(self, plan: pa.Table) -> None:
        """Keep the plan: which parts the run has, and where each one's samples are."""
        self._plan.write_table(plan)

    def read_plan(self) -> pa.Table | None:
        """The plan of the last run, or None if it got no further than its catalog."""
        return self._plan.read_table() if self._plan.exists() else None

    def kept_plan(self) -> pa.Table | None:
        """As `read_plan`, for who can do without it: None also if it cannot be read."""
        try:
            return self.read_plan()
        except StorageError:
            return None

    def tables(self, stage: Stage) -> StageTables:
        """The stage's tables."""
        return StageTables.of(self.root, stage.name, stage.fingerprint)

    def note_stages(self, recipe: Recipe, stages: Sequence[Stage]) -> None:
        """Leave in each stage's directory the recipe it was first made with."""
        for stage in stages:
            note = self.tables(stage).directory / "_recipe.yaml"
            if not note.exists():
                note.write_bytes(dump_recipe(recipe).encode())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace the summary."""
        self.summary.write_bytes(json.dumps(summary, indent=1, ensure_ascii=False).encode())

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of the last session that ended, or None."""
        return json.loads(self.summary.read_text()) if self.summary.exists() else None
