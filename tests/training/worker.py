"""One worker without Ray, on a mined run of scenes: prepared, trained, stopped, looked at."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

from engine.export.mined import SampleReader, open_run
from engine.recipe import load_recipe
from engine.recipe.finetune import Finetune
from engine.rundir import RunDirectory
from engine.training.captions import collect
from engine.training.job import Job
from engine.training.model_directory import ModelDirectory
from engine.training.pairs import join
from engine.training.settings_file import Begun
from engine.training.work import work
from engine.training.world import World
from tests.training import runs

#: Few of everything: a method is trained in a second.
SMALL = {"batch": 16, "epochs": 2, "checkpoint_every": 2, "validate_every": 5, "data": {"validation": 0.2}}


class Stopped(BaseException):
    """Stands for the end of a process."""


def job_of(root: Path, broken: Sequence[int] = (), **finetune: Any) -> Job:
    recipe = load_recipe(runs.mined(root, count=28, broken=broken, **{**SMALL, **finetune}))
    run, settings = RunDirectory.at(recipe.run.out or ""), recipe.finetune
    assert settings is not None
    place, mined = ModelDirectory.of(run, settings), open_run(run, recipe)
    reader = SampleReader(mined)
    parts = ((row["catalog"], row["start"], reader.part(row)) for row in mined.parts())
    join([collect(parts, settings.data)], settings, recipe.run.seed).write(place.pairs)
    job = Job(settings, recipe.run.seed, run, place, recipe.images.max_pixels)
    begun(job).write(place.settings)
    return job


def begun(job: Job, **changed: Any) -> Begun:
    """What decides the job's weights, with other settings of `finetune`."""
    settings = Finetune.model_validate({**job.settings.model_dump(), **changed})
    return Begun(settings, job.seed, job.max_pixels)


def train(job: Job, stop_after: int | None = None) -> list[str]:
    """Train, or die after so many steps; what was said."""
    torch.set_num_threads(1)
    lines = list[str]()

    def tell(line: str) -> None:
        lines.append(line)
        if stop_after is not None and line.startswith(f"finetune  {stop_after}/"):
            raise Stopped

    work(job, World(), tell)
    return lines


def weights(job: Job) -> dict[str, Any]:
    about = job.place.about()
    return load_file(Path(job.place.directory.uri) / about["files"].rpartition("/")[2])


def rows(job: Job) -> list[dict[str, str]]:
    with (Path(job.place.directory.uri) / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name not in ("samples/s", "waiting")} for row in found]
