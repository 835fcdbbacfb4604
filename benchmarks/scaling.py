"""How the rate grows with actors: a generator that waits as a GPU would, on simulated nodes.

The limit is linear growth from one actor. Each simulated node is a raylet of its own with two
logical GPUs; what is measured is whether the engine keeps that many generators at work.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from benchmarks.inputs import image_tars, scripted_recipe
from benchmarks.outcome import Outcome, main, median
from engine.flow.mine import mine
from engine.rundir import RunDirectory

ACTORS_PER_NODE = 4


def run(quick: bool) -> Outcome:
    """Samples/s an actor at 16 actors, against 1 actor."""
    rounds, sizes = (1, (1, 4)) if quick else (3, (1, 2, 4, 8, 16))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        image_tars(root / "images", 16 * 256, 256)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
        for _ in range(max(sizes) // ACTORS_PER_NODE):
            cluster.add_node(num_cpus=ACTORS_PER_NODE)
        ray.init(address=cluster.address, log_to_driver=False)
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
    """The rate while all actors are at work, start-up of actors not counted."""
    recipe = scripted_recipe(root / "images", root / label, part_rows=32, actors=actors, cpus=1, delay_s=0.5)
    summary = mine(recipe, RunDirectory.at(str(root / label)), say=lambda line: None)
    return float(summary["session"]["images_per_s"])


if __name__ == "__main__":
    main(run)
