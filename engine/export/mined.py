"""A run as its readers see it: every sample with what each stage made of it, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from engine.catalog import read_part
from engine.errors import RecipeError, StorageError
from engine.generation.prompts import Prompt
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.schema import ASSOCIATE, CAPTION, CATALOG, DESCRIBE
from engine.stages import build_stages
from engine.storage import StageTables, digest_of

#: The column that each stage adds, and the schema of its tables.
STAGES: dict[str, tuple[str, pa.Schema]] = {
    "describe": ("description", DESCRIBE),
    "associate": ("elements", ASSOCIATE),
    "caption": ("creative_captions", CAPTION),
}


@dataclass(frozen=True)
class MinedRun:
    """A run directory with the stage tables that belong to its recipe.

    Attributes:
        directory: where the run lies.
        recipe: the recipe it was last run with.
        plan: its parts, schema PLAN.
        fingerprints: the fingerprint of each stage's tables, by stage.
        prompts: the digest of each prompt's text, by stage and prompt; empty where the prompts
            cannot be read here.
    """

    directory: RunDirectory
    recipe: Recipe
    plan: pa.Table
    fingerprints: Mapping[str, str]
    prompts: Mapping[str, str] = field(default_factory=dict)

    def tables(self, stage: str) -> StageTables:
        """The stage's tables."""
        return StageTables.of(self.directory.root, stage, self.fingerprints[stage])

    def bare(self) -> MinedRun:
        """Without its plan, which tasks that are given their parts need not carry."""
        return replace(self, plan=self.plan.slice(0, 0))

    def parts(self) -> Iterator[dict[str, Any]]:
        """The rows of the plan, in order."""
        for batch in self.plan.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()


def open_run(directory: RunDirectory, recipe: Recipe | None = None) -> MinedRun:
    """Open a run that has at least its plan, as its own recipe sees it or another.

    Its tables are found without its models too: where fingerprints cannot be computed, or are
    others than on the machine that mined (a hub cache is missing), the summary's are used.

    Raises:
        StorageError: this is no run directory, or it got no further than its catalog.
        RecipeError: a model or prompt is not there, and no session has ended to tell its tables.
    """
    recipe = recipe or directory.read_recipe()
    plan = directory.read_plan()
    if plan is None:
        raise StorageError(f"{directory.root.uri}: the run has no plan yet; finish `connote run` first")
    noted = _noted_fingerprints(directory)
    try:
        stages = build_stages(recipe)
    except RecipeError:
        if not noted:
            raise
        return MinedRun(directory, recipe, plan, noted)
    fingerprints = {stage.name: stage.fingerprint for stage in stages if stage.name in STAGES}
    prompts = {
        f"{stage.name}.{name}": digest_of(prompt.text)
        for stage in stages
        for name in ("elements_prompt", "prompt")
        if isinstance(prompt := getattr(stage, name, None), Prompt)
    }
    if stages and not directory.tables(stages[0]).directory.exists() and noted:
        return MinedRun(directory, recipe, plan, noted)
    return MinedRun(directory, recipe, plan, fingerprints, prompts)


def _noted_fingerprints(directory: RunDirectory) -> dict[str, str]:
    summary = directory.read_summary() or {}
    stages = summary.get("stages", {}).items()
    return {name: stage["fingerprint"] for name, stage in stages if name in STAGES}


@dataclass
class MinedSample:
    """A sample with what was mined from it.

    `errors` holds, for each stage of the recipe in order, why the sample has no row there, or
    None; `error` is the catalog's own.
    """

    id: str
    key: str
    uri: str
    offset: int | None
    size: int
    captions: list[str]
    extra: str | None
    error: str | None
    image: bytes | None = None
    description: str | None = None
    elements: list[dict[str, Any]] | None = None
    creative_captions: list[dict[str, Any]] | None = None
    errors: dict[str, str | None] = field(default_factory=dict)

    def why_not(self, *stages: str) -> str | None:
        """Why one of these stages made nothing of the sample: the first reason, or None."""
        if self.error is not None:
            return f"catalog: {self.error}"
        for stage in stages:
            if reason := self.errors.get(stage, "not in the recipe"):
                return f"{stage}: {reason}"
        return None


class SampleReader:
    """Reads a run's samples part by part; memory holds one part and one shard's catalog."""

    def __init__(self, run: MinedRun, images: bool = False) -> None:
        self.run, self.images = run, images
        self._name, self._catalog = "", CATALOG.empty_table()

    def part(self, row: Mapping[str, Any]) -> list[MinedSample]:
        """The samples of one part (a row of the plan), in catalog order.

        Raises:
            StorageError: a table cannot be read, or does not belong to the part.
        """
        names = [*CATALOG.names, *(["image"] if self.images else [])]
        samples = [MinedSample(**values) for values in self._rows(row).select(names).to_pylist()]
        for stage in self.run.fingerprints:
            self._attach(samples, stage, row["part"])
        return samples

    def _rows(self, row: Mapping[str, Any]) -> pa.Table:
        place = self.run.directory.catalog / row["catalog"]
        if self.images:
            return read_part(place, row["start"], row["rows"])
        if self._name != place.name:
            self._name, self._catalog = place.name, place.read_table()
        return self._catalog.slice(row["start"], row["rows"])

    def _attach(self, samples: list[MinedSample], stage: str, part: str) -> None:
        column, schema = STAGES[stage]
        tables = self.run.tables(stage)
        table = tables.read(part, schema)
        if table is None:
            for sample in samples:
                sample.errors[stage] = "not done yet"
            return
        if table["id"].to_pylist() != [sample.id for sample in samples]:
            raise StorageError(
                f"{tables.table(part).uri}: holds other samples than the catalog; delete it and run again"
            )
        for sample, value, error in zip(
            samples, table[column].to_pylist(), table["error"].to_pylist(), strict=True
        ):
            setattr(sample, column, value)
            sample.errors[stage] = error
