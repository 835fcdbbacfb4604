"""What an earlier run measured: its requests, tokens, rates and sizes, from its summary and its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.catalog.tables import read_header
from engine.errors import RecipeError
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.stages import Stage, build_stages
from engine.stages.groups import engine_settings, group_name, group_stages


@dataclass(frozen=True)
class Measured:
    """What one stage took in the last session of a run, for one image.

    Attributes:
        images: on how many it was measured.
        requests, output_tokens: of one image, repeated attempts included.
        rate: images a second on one device: a GPU, or an actor without one; None if the summary does
            not tell.
        on_gpus: which of the two it was.
        bytes: of the stage's table; None if none is there.
    """

    images: int
    requests: float
    output_tokens: float
    rate: float | None
    on_gpus: bool
    bytes: float | None


#: By name and fingerprint: a stage with other settings has measured nothing of this one.
Measurements = Mapping[tuple[str, str], Measured]


def measured(run: RunDirectory) -> dict[tuple[str, str], Measured]:
    """What the last session in this run directory measured of each stage that computed something.

    Empty where there was none, or where its recipe cannot be used any more: a model is gone, say.

    Raises:
        StorageError: the run directory cannot be read.
    """
    summary = run.read_summary()
    if summary is None:
        return {}
    try:
        recipe = run.read_recipe()
        stages = build_stages(recipe)
    except RecipeError:
        return {}
    plan = run.read_plan()
    return dict(_measured(run, recipe, stages, summary, plan))


def _measured(
    run: RunDirectory,
    recipe: Recipe,
    stages: Sequence[Stage],
    summary: Mapping[str, Any],
    plan: pa.Table | None,
) -> Iterator[tuple[tuple[str, str], Measured]]:
    session = summary["session"]
    for group in group_stages(stages):
        took = {stage.name: session["stages"].get(stage.name, {}) for stage in group}
        spent = sum(stage.get("seconds", 0.0) for stage in took.values())
        pool = session["pools"].get(group_name(group), {})
        gpus = getattr(engine_settings(recipe, group[0].engine), "gpus", 0)
        for stage in group:
            known = summary["stages"].get(stage.name, {})
            images = took[stage.name].get("computed", 0)
            if not images or known.get("fingerprint") != stage.fingerprint:
                continue
            # Stages of a pool work at the same time, so its busy time is shared out among them.
            share = took[stage.name]["seconds"] / spent if spent else 0.0
            device_s = pool.get("busy_s", 0.0) * share * (gpus or 1)
            yield (
                (stage.name, stage.fingerprint),
                Measured(
                    images,
                    took[stage.name]["requests"] / images,
                    took[stage.name]["output_tokens"] / images,
                    images / device_s if device_s > 0 else None,
                    gpus > 0,
                    _bytes_per_image(run, stage, plan),
                ),
            )


def _bytes_per_image(run: RunDirectory, stage: Stage, plan: pa.Table | None) -> float | None:
    if plan is None:
        return None
    sizes = {
        info.base_name.removesuffix(".parquet"): info.size for info in run.tables(stage).directory.entries()
    }
    done = plan.filter(pc.is_in(plan["part"], value_set=pa.array(sorted(sizes), pa.string())))
    rows = int(pc.sum(done["rows"]).as_py() or 0)
    return sum(sizes[part] for part in done["part"].to_pylist()) / rows if rows else None


def images_in(run: RunDirectory) -> int | None:
    """The samples of the run's plan, or those cataloged so far; None where there is neither.

    Raises:
        StorageError: the run directory cannot be read.
    """
    plan = run.read_plan()
    if plan is not None:
        return int(pc.sum(plan["rows"]).as_py() or 0)
    tables = [run.catalog / name for name in sorted(run.catalog.names()) if name.endswith(".parquet")]
    return sum(read_header(table).rows for table in tables) if tables else None
