"""Two workers on two cores, over two trainings side by side that have nothing to do with each other.

The same ViT-S-32 and pairs as `train_speed`; every worker has one thread and 32 pairs a step. Two trainings
of one worker each are the machine's limit: they share memory and caches as two workers do, but exchange
nothing. What two workers lose against it is the exchange of outputs and gradients. For many workers the
data order alone is simulated: how evenly 1.67 million captions in batches of 4,096 fall to 2 to 512 workers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.outcome import Outcome, main, median
from benchmarks.training_runs import BATCH, figures, finish, start, train, write_set


def run(quick: bool) -> Outcome:
    """Pairs/s of two workers, against two trainings side by side."""
    rounds = 1 if quick else 3
    simulate()
    ratios = list[float]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_set(root)
        for index in range(rounds):
            together, _ = train(root, f"two{index}", workers=2)
            half = {"batch": BATCH // 2, "micro_batch": BATCH // 2}
            sides = [f"one{index}{side}" for side in "ab"]
            for process in [start(root, side, **half) for side in sides]:
                finish(process)
            apart = sum(figures(root, side)[0] for side in sides)
            print(f"  two workers {together:.2f}, two trainings {apart:.2f} pairs/s", flush=True)
            ratios.append(together / apart)
    return Outcome("train_scaling", median(ratios), 0.8, "two_trainings_side_by_side")


def simulate() -> None:
    """How evenly a step's pairs fall to many workers."""
    from engine.training.order import epoch_batches
    from engine.training.world import World

    image = np.repeat(np.arange(82_783, dtype=np.int32), 20)
    level = np.tile(np.arange(20, dtype=np.int8) % 5, 82_783)
    order = epoch_batches(image, level, "shuffled", 4096, (0.6, 0.4), 0, 0)
    for workers in (2, 8, 64, 512):
        sizes = [
            [
                rows.stop - rows.start
                for rows in (World(rank, workers).rows(len(order[step][0])) for rank in range(workers))
            ]
            for step in range(0, len(order), 20)
        ]
        lost = 1 - np.mean([np.mean(step) / np.max(step) for step in sizes])
        print(f"  {workers} workers: {100 * lost:.2f} % of the time of a step is lost to uneven shares")


if __name__ == "__main__":
    main(run)
