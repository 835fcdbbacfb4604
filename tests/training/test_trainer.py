"""Training through Ray: to the end, killed and gone on with, refused where it was changed."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import open_clip
import psutil
import pytest
import torch
from ray.cluster_utils import Cluster

from engine.encoders import EncoderName, load_encoder
from engine.recipe import load_recipe
from engine.rundir import RunDirectory
from engine.training import trainer
from tests.flow.runs import descendants
from tests.process import Run
from tests.training import runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("on_ray")]


WORKERS = 2
#: A step takes some 15 ms: so many that none of the trainings that are disturbed ends before that.
EPOCHS = 12
STEPS = 12 * EPOCHS


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained by two workers that nothing disturbed."""
    root = tmp_path_factory.mktemp("undisturbed")
    runs.finish(runs.mined(root, workers=WORKERS, epochs=EPOCHS))
    return root


def same(one: Path, other: Path) -> None:
    found, wanted = runs.weights(one), runs.weights(other)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert np.array_equal(found[name], wanted[name]), f"{name} differs"


def checkpoints(root: Path) -> list[str]:
    return sorted(
        path.parent.name for path in root.glob("run/models/full/checkpoints/step-*/checkpoint.json")
    )


@pytest.mark.parametrize("kept", [3])
def test_a_killed_driver_goes_on(undisturbed: Path, tmp_path: Path, kept: int) -> None:
    recipe = runs.mined(tmp_path, workers=WORKERS, epochs=EPOCHS)
    process = runs.start(recipe)
    workers = workers_of(process)
    process.wait_for(lambda: steps(tmp_path) >= 3 * kept, 300)
    # Left alone, workers notice only after a second or two that nobody is there, and train on until then.
    for victim in (process, *workers):
        victim.send_signal(signal.SIGKILL)
    process.wait()
    process.wait_for(lambda: gone(workers))
    assert not (tmp_path / "run/models/full/connote.json").exists(), "the kill came too late"
    text = runs.finish(recipe)
    assert "going on from step" in text
    same(tmp_path, undisturbed)
    # The log is that of an undisturbed run.
    assert logged(tmp_path) == logged(undisturbed)


@pytest.mark.parametrize("mined", [True, False])
def test_a_run_that_mines_nothing_is_cataloged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mined: bool
) -> None:
    """Its shards may have changed; a mined run's images are those that were mined."""
    nothing = [f"{name}=null" for name in ("describe", "associate", "caption")]
    original = "finetune.data.captions=[original]"
    plain = load_recipe(runs.mined(tmp_path), [*nothing, "generators={}", original])
    run = RunDirectory.at(plain.run.out or "")
    if not mined:
        run.write_recipe(plain)
    plan, asked = run.read_plan(), list[bool]()
    monkeypatch.setattr(trainer, "refresh_catalog", lambda *_: asked.append(True) or plan)
    trainer._catalog(plain, run, False, print)
    assert asked == ([] if mined else [True])


def test_a_killed_worker_is_replaced(undisturbed: Path, tmp_path: Path) -> None:
    process = runs.start(runs.mined(tmp_path, workers=WORKERS, epochs=EPOCHS))
    victims = workers_of(process)
    process.wait_for(lambda: bool(checkpoints(tmp_path)), 300)
    victims[-1].kill()
    text = process.end(600)
    assert process.returncode == 0, text
    assert "a worker was lost" in text
    same(tmp_path, undisturbed)


def test_ctrl_c_stops_it_and_says_how_to_go_on(undisturbed: Path, tmp_path: Path) -> None:
    recipe = runs.mined(tmp_path, workers=1, epochs=EPOCHS)
    process = runs.start(recipe)
    process.wait_for(lambda: bool(checkpoints(tmp_path)), 300)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    text = process.end(120)
    assert process.returncode == 130, text
    assert "stopped; run the same command to go on from here" in text
    process.wait_for(lambda: gone(children))


def test_a_lost_node(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = runs.mined(tmp_path, workers=WORKERS, epochs=EPOCHS)
    # Ray looks every 3 s, and takes a node for lost when five looks in a row failed.
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=2)
        process = runs.start(recipe, "--address", cluster.address)
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        process.wait_for(lambda: bool(checkpoints(tmp_path)), 300)
        # A machine takes its workers along; of a raylet that dies alone they hear in a second or two.
        workers = raylet.children(recursive=True)
        cluster.remove_node(node, allow_graceful=False)
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        cluster.add_node(num_cpus=2)
        text = process.end(600)
        assert process.returncode == 0, text
        assert "a worker was lost" in text
    finally:
        cluster.shutdown()
    same(tmp_path, undisturbed)


def test_a_finished_model_is_left_alone_and_a_changed_recipe_refused(undisturbed: Path) -> None:
    root = undisturbed
    before = (root / "run/models/full/connote.json").stat().st_mtime_ns
    text = runs.finish(root / "recipe.yaml")
    assert text.startswith("model ") and "t2i R@1" in text
    text = runs.finish(root / "recipe.yaml", "--set", "finetune.batch=8", status=2)
    assert "finetune.batch is 8 (was 16): this training began with other settings" in text
    # What decides nothing may change.
    runs.finish(root / "recipe.yaml", "--set", "finetune.log_every=7")
    assert (root / "run/models/full/connote.json").stat().st_mtime_ns == before


def test_the_model_loads_elsewhere(undisturbed: Path) -> None:
    root = undisturbed
    directory = root / "run/models/full"
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{directory}")
    encoder = load_encoder(EncoderName.parse(f"connote:{directory}"))
    texts = ["a hound", "an anchor"]
    tokens = open_clip.get_tokenizer(f"local-dir:{directory}")(texts)
    with torch.no_grad():
        theirs = model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(encoder.embed_texts(texts), theirs, atol=1e-5)
    card = (directory / "README.md").read_text()
    assert "open_clip" in card and "t2i" in card
    about = json.loads((directory / "connote.json").read_text())
    assert about["steps"] == STEPS and set(about["before"]) == set(about["validation"])


def workers_of(process: Run) -> list[psutil.Process]:
    """The processes that train for a run, as soon as all are there: before the first step."""
    process.wait_for(lambda: len(descendants(process, "RayTrainWorker")) == WORKERS, 300)
    return descendants(process, "RayTrainWorker")


def gone(processes: Sequence[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def steps(root: Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(name.split("-")[1]) for name in checkpoints(root)), default=0)


def logged(root: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without what depends on the clock."""
    with (root / "run/models/full/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in ("samples/s", "waiting", "time", "seconds"):
            row.pop(name, None)
    return rows
