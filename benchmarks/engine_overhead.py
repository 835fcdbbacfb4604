"""What the engine itself costs: all three stages with a generator that answers at once.

The limit to compare with is the rate at which the engine must hand out work so that it never
holds back a generator: 1,000 samples a second with 20 captions each, on two cores.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from benchmarks.inputs import image_tars, scripted_recipe
from benchmarks.outcome import Outcome, main, median
from engine.flow.mine import mine
from engine.rundir import RunDirectory
from engine.schema import PLAN
from engine.stages import build_stages
from engine.status import stage_status, work_left

GOAL_SAMPLES_PER_S = 1_000
GOAL_PLANNING_S = 10


def run(quick: bool) -> Outcome:
    """Samples/s through describe, associate and caption, against 1,000."""
    samples, rounds = (4_096, 1) if quick else (32_768, 3)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        planning(root, 10_000 if quick else 100_000)
        image_tars(root / "images", samples, 4_096)
        rates = []
        for index in range(rounds):
            recipe = scripted_recipe(root / "images", root / f"run{index}", actors=2)
            directory = RunDirectory.at(str(root / f"run{index}"))
            summary = mine(recipe, directory, say=lambda line: None)
            captions = summary["session"]["stages"]["caption"]["counts"]["captions"]
            assert captions == 20 * samples, captions
            rates.append(summary["session"]["images_per_s"])
            print(f"  {1000 * summary['session']['seconds'] / summary['session']['parts']:.1f} ms a part")
        return Outcome("engine_overhead", median(rates) / GOAL_SAMPLES_PER_S, 1.0, "1000_samples_per_s")


def planning(root: Path, parts: int) -> None:
    """Time and driver memory of planning a resume when half of the parts are committed."""
    directory = RunDirectory.at(str(root / "planning"))
    recipe = scripted_recipe(root, root / "planning")
    stages = build_stages(recipe)
    names = [f"part-{index:06d}-{index:016x}" for index in range(parts)]
    plan = pa.table(
        [names, ["c.parquet"] * parts, list(range(parts)), [256] * parts, [0] * parts], schema=PLAN
    )
    for stage in stages:
        folder = Path(directory.tables(stage).directory.uri)
        folder.mkdir(parents=True)
        for part in names[::2]:
            (folder / f"{part}.parquet").touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    work = work_left(directory, plan, stages, retry_failed=False)
    states = stage_status(directory, plan, stages)
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(work) == parts // 2 == states[0].parts_done
    print(
        f"  planning a resume of {parts:,} parts: {seconds:.2f} s (goal {GOAL_PLANNING_S}), +{grown:.0f} MiB"
    )
    if seconds > GOAL_PLANNING_S:
        raise SystemExit(f"planning took {seconds:.1f} s, the goal is {GOAL_PLANNING_S} s")


if __name__ == "__main__":
    main(run)
