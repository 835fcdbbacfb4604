"""Training while nodes leave and join: with as many workers as there is room for, on the same batches."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
from ray.cluster_utils import Cluster
from safetensors.numpy import load_file

from engine.recipe import load_recipe
from engine.rundir import RunDirectory
from engine.training.job import Job
from engine.training.model_directory import ModelDirectory
from engine.training.work import work
from engine.training.world import World
from tests.training import runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]

#: Enough steps that there are some left when a node has gone and another has come.
STEPS = 480
#: So small a rate that sums in another order stay next to each other.
SETTINGS: dict[str, Any] = {
    "epochs": STEPS // 12,
    "learning_rate": 1e-5,
    "checkpoint_every": 8,
    "validate_every": 240,
}


def test_nodes_leave_and_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A node's workers are background tasks by default, which anything else on the machine starves.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    recipe = runs.mined(tmp_path, workers={"min": 1, "max": 2}, **SETTINGS)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        process = runs.start(recipe, "--address", cluster.address)
        process.wait_for(lambda: any((tmp_path / "run/models/full/checkpoints").glob("*/checkpoint.json")))
        cluster.remove_node(node, allow_graceful=False)
        process.wait_for(lambda: "with 1 worker instead of 2" in process.said())
        cluster.add_node(num_cpus=1)
        said = process.end()
    finally:
        cluster.shutdown()
    assert process.returncode == 0, said
    assert f"{STEPS} steps, with 2 workers" in said
    assert "is gone, by itself or with its node); training goes on from the last checkpoint" in said
    assert "there is room for more workers" in said and "with 2 workers instead of 1" in said
    directory = tmp_path / "run/models/full"
    stretches = json.loads((directory / "connote.json").read_text())["workers"]
    assert [each["workers"] for each in stretches] == [2, 1, 2]
    began = [each["from"] for each in stretches]
    assert began[0] == 0 < began[1] < began[2] < STEPS and not any(step % 4 for step in began)
    assert (
        f"2 from step 0, 1 from step {began[1]}, 2 from step {began[2]}"
        in (directory / "README.md").read_text()
    )
    _same_batches(directory, _undisturbed(recipe))
    open_clip.create_model_from_pretrained(f"local-dir:{directory}")


def _undisturbed(recipe: Path) -> Path:
    """The directory of a model that one worker trained on the same pairs, without Ray."""
    loaded = load_recipe(recipe, ["finetune.name=undisturbed", "finetune.workers=1"])
    settings, run = loaded.finetune, RunDirectory.at(loaded.run.out or "")
    assert settings is not None
    place = ModelDirectory.of(run, settings)
    place.pairs.write_bytes((run.root / "models/full/pairs.parquet").read_bytes())
    work(Job(settings, loaded.run.seed, run, place, loaded.images.max_pixels), World(), lambda line: None)
    return Path(place.directory.uri)


def _same_batches(found: Path, wanted: Path) -> None:
    """Each step once, with the loss of the very batch that one worker has there; nearly the same weights."""
    losses, true = _losses(found), _losses(wanted)
    assert list(losses) == list(true) == list(range(1, STEPS + 1))
    had, were = np.array(list(losses.values())), np.array(list(true.values()))
    np.testing.assert_allclose(had, were, rtol=1e-4)
    # Batches differ by more than that, so another one would have been noticed.
    assert np.median(np.abs(np.diff(were)) / were[1:]) > 1e-3
    weights, there = (load_file(place / "open_clip_model.safetensors") for place in (found, wanted))
    for name in there:
        np.testing.assert_allclose(weights[name], there[name], atol=1e-4, err_msg=name)


def _losses(directory: Path) -> dict[int, float]:
    with (directory / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "train"]
    return {int(row["step"]): float(row["loss"]) for row in rows}
