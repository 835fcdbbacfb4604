"""What the workers of a training run are told; the driver and Ray's controller import nothing heavier."""

from __future__ import annotations

from dataclasses import dataclass

from engine.recipe.finetune import Finetune
from engine.rundir import RunDirectory
from engine.training.model_directory import ModelDirectory


@dataclass(frozen=True)
class Job:
    """What all workers of a training run are told.

    Attributes:
        settings: the recipe's section.
        seed: the run's.
        run: whose images are read.
        place: the model's directory.
        max_pixels: larger images are left out.
    """

    settings: Finetune
    seed: int
    run: RunDirectory
    place: ModelDirectory
    max_pixels: int
