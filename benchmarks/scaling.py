"""How the rate grows with actors: a generator that waits as a GPU would, on simulated nodes.

The limit is linear growth from one actor. Each simulated node is a raylet of its own with room
for four actors; what is measured is whether the engine keeps that many generators at work. An
actor does about 16 samples/s, with all their associations and captions: so slow that two cores can
feed sixteen of them.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from benchmarks.inputs import image_tars, scripted_recipe
from benchmarks.outcome import Outcome, main, median
from engine.flow.catalog import refresh_catalog
from engine.flow.cluster import set_node_defaults
from engine.flow.pipeline import stream
from engine.flow.pools import plan_pools
from engine.rundir import RunDirectory
from engine.stages import build_stages

ACTORS_PER_NODE = 4
PARTS_PER_ACTOR, PART_ROWS = 20, 32


def run(quick: bool) -> Outcome:
    """Samples/s an actor at 16 actors, against 1 actor."""
    rounds, sizes = (1, (1, 4)) if quick else (3, (1, 2, 4, 8, 16))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        image_tars(root / "images", max(sizes) * PARTS_PER_ACTOR * PART_ROWS, PARTS_PER_ACTOR * PART_ROWS)
        set_node_defaults(ACTORS_PER_NODE)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
        for _ in range(max(sizes) // ACTORS_PER_NODE):
            cluster.add_node(num_cpus=ACTORS_PER_NODE)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            efficiencies = []
            for index in range(rounds):
                rates = {size: rate(root, size, f"{index}-{size}") for size in sizes}
                for size, value in rates.items():
                    print(
                        f"  {size:>2} actors: {value:7.1f} samples/s, {value / size / rates[1]:.3f} of linear"
                    )
                efficiencies.append(rates[max(sizes)] / max(sizes) / rates[1])
        finally:
            ray.shutdown()
            cluster.shutdown()
        return Outcome("scaling", median(efficiencies), 0.95, f"linear_from_1_to_{max(sizes)}_actors")


def rate(root: Path, actors: int, label: str) -> float:
    """Samples/s while all actors are at work.

    From the moment when each has finished a part (two cores take many seconds to start sixteen
    processes) until the parts that remain are too few to keep all of them busy.
    """
    recipe = scripted_recipe(root / "images", root / label, PART_ROWS, actors=actors, cpus=1, delay_s=0.5)
    run, stages = RunDirectory.at(str(root / label)), build_stages(recipe)
    pools, _ = plan_pools(recipe, run, stages, retry_failed=False)
    plan = refresh_catalog(recipe, run, lambda _: None, lambda line: None)
    work = plan.slice(0, actors * PARTS_PER_ACTOR)
    times, seen, begun = list[float](), set[str](), 0
    for report in stream(work, run, pools, recipe.run.parts_in_flight):
        times.append(time.perf_counter())
        seen.update(*report.meters.values())
        if len(seen) < actors:
            begun = len(times)
    last = len(times) - 1 - 2 * actors * recipe.run.parts_in_flight
    if last - begun < 4 * actors:
        raise SystemExit(f"{actors} actors were at work together for {last - begun} parts only")
    return (last - begun) * PART_ROWS / (times[last] - times[begun])


if __name__ == "__main__":
    main(run)
