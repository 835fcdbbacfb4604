"""What checkpoints cost of the time of a training.

One worker, without Ray, trains the ViT-S-32 of `train_speed` (63 million parameters; a checkpoint with its
optimiser's state is 760 MB) for some steps of 32 pairs, with a checkpoint every three of them and without
any; the difference is the cost of one checkpoint: copying, and writing behind the training's back on the
same two cores. It is told as a share of the time of the 200 steps that lie between two checkpoints by
default, and the outcome is the share of the time that is left to the steps.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.outcome import Outcome, main, median
from benchmarks.training_runs import train, write_set

#: Steps between two checkpoints by default, and in the measurement.
USUAL, OFTEN, STEPS = 200, 3, 13


def run(quick: bool) -> Outcome:
    """The share of the time that is left to the steps."""
    rounds = 1 if quick else 3
    shares = list[float]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_set(root)
        # Catalogs and pairs are made by the job; the steps are timed here.
        train(root, "run", epochs=1, max_steps=4, cpus=2)
        for index in range(rounds):
            plain = steps(root, f"plain{index}", 10**6)
            kept = steps(root, f"kept{index}", OFTEN)
            one = (kept - plain) / (STEPS // OFTEN)
            step = plain / STEPS
            print(f"  a step {step:.2f} s, a checkpoint {one:.2f} s", flush=True)
            shares.append(1 - max(one, 0.0) / (USUAL * step))
    return Outcome("checkpoint_cost", median(shares), 0.98, "training_without_checkpoints")


def steps(root: Path, name: str, checkpoint_every: int) -> float:
    """Seconds of `STEPS` steps, with the checkpoints that lie between them."""
    import torch

    from engine.recipe import load_recipe
    from engine.rundir import RunDirectory
    from engine.training.job import Job
    from engine.training.model_directory import ModelDirectory
    from engine.training.work import work
    from engine.training.world import World

    torch.set_num_threads(2)
    changes = [f"finetune.{key}" for key in (f"name={name}", f"checkpoint_every={checkpoint_every}")]
    recipe = load_recipe(
        root / "run.yaml",
        [*changes, *("finetune." + each for each in (f"max_steps={STEPS + 2}", "log_every=1", "batch=32"))],
    )
    settings, run = recipe.finetune, RunDirectory.at(str(recipe.run.out))
    assert settings is not None
    place = ModelDirectory.of(run, settings)
    place.pairs.write_bytes((run.root / "models" / "full" / "pairs.parquet").read_bytes())
    seen: list[float] = []

    def tell(line: str) -> Any:
        if line.startswith("finetune "):
            seen.append(time.perf_counter())

    work(Job(settings, recipe.run.seed, run, place, recipe.images.max_pixels), World(), tell)
    return seen[STEPS] - seen[0]


if __name__ == "__main__":
    main(run)
