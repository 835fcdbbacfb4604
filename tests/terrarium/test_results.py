"""The command of the results, its recipes and what it keeps; training itself is replaced."""

from __future__ import annotations

import functools
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.storage import Location
from engine.terrarium import results
from engine.terrarium.held_out import SEED
from engine.terrarium.measure import SetRanks, measure
from engine.terrarium.results import MINED_SEED, MODEL, SETTINGS, Plan, make, recipe_of, write_page
from engine.terrarium.results_models import measure_model, open_encoder, open_model, prepare
from engine.terrarium.results_page import Results
from engine.terrarium.world import TRAINING_SEED
from engine.training.result import write_result

torch.set_num_threads(1)


def plan(directory: Path, *methods: str) -> Plan:
    return Plan(directory, scenes=4, images=12, methods=methods or tuple(SETTINGS), seeds=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A model directory as `full` leaves it, with the weights it began with."""
    directory = Location(str(tmp_path_factory.mktemp("models") / "full-0"))
    directory.make_directory()
    method = open_encoder(MODEL)
    recipe = recipe_of(plan(Path("x"), "full"), "full")
    assert recipe.finetune
    about = write_result(directory, method, recipe.finetune)
    (directory / "connote.json").write_bytes(json.dumps(about).encode())
    return directory


def test_seeds_have_nothing_in_common() -> None:
    assert MINED_SEED != SEED and max(MINED_SEED, SEED) < TRAINING_SEED


def test_the_mining_recipe_only_mines(tmp_path: Path) -> None:
    recipe = recipe_of(plan(tmp_path))
    assert recipe.describe and recipe.associate and recipe.caption
    assert not (recipe.embed or recipe.cluster or recipe.sample or recipe.polysemy or recipe.finetune)
    assert recipe.run.out == str(tmp_path / "4-scenes" / "run")
    # Fewer or more scenes are another set, which the page tells the number of.
    assert recipe_of(replace(plan(tmp_path), scenes=5)).run.out == str(tmp_path / "5-scenes" / "run")


@pytest.mark.parametrize("method", SETTINGS)
def test_every_method_has_a_recipe_for_each_seed(tmp_path: Path, method: str) -> None:
    for seed in (0, 3):
        recipe = recipe_of(plan(tmp_path), method, seed)
        assert recipe.finetune and recipe.finetune.method == method and recipe.finetune.model == MODEL
        assert recipe.run.seed == seed and recipe.finetune.directory == f"{method}-{seed}"


def test_settings_stand_above_what_is_usual(tmp_path: Path) -> None:
    few = Plan(tmp_path, 4, 12, ["full"], 1, ["finetune.max_steps=2", "finetune.batch=8"])
    recipe = recipe_of(few, "full")
    assert recipe.finetune and (recipe.finetune.max_steps, recipe.finetune.batch) == (2, 8)
    assert recipe_of(few).finetune is None


def test_a_model_that_was_not_changed_finds_the_same(model: Location, tmp_path: Path) -> None:
    before = open_encoder(MODEL)
    searched = prepare(12, before)
    found = measure_model(model, searched, tmp_path)
    for name, one in measure(before, searched.pixels, searched.sets).items():
        np.testing.assert_array_equal(found[name].text_to_image, one.text_to_image)
        np.testing.assert_array_equal(found[name].image_to_text, one.image_to_text)


def test_what_was_measured_is_kept(model: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = prepare(6, open_encoder(MODEL))
    first = measure_model(model, searched, tmp_path)
    assert [file.name[:7] for file in tmp_path.iterdir()] == ["full-0-"]
    monkeypatch.setattr("engine.terrarium.results_models.measure", None)
    again = measure_model(model, searched, tmp_path)
    assert all(np.array_equal(first[name].scenes, again[name].scenes) for name in first)
    with pytest.raises(TypeError):  # other texts are measured again
        measure_model(model, prepare(7, open_encoder(MODEL)), tmp_path)


def test_a_fine_tuned_model_opens_as_a_method(model: Location) -> None:
    assert open_model(model).image_side(torch.zeros(1, 3, 64, 64), torch.tensor([-1]))["features"].shape == (
        1,
        128,
    )


def test_the_command_makes_the_page(model: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[str, int]]()
    monkeypatch.setattr(results, "Results", functools.partial(Results, draws=20))

    def finetune(recipe: Recipe, run: RunDirectory) -> Location:
        assert recipe.finetune
        asked.append((recipe.finetune.method, recipe.run.seed))
        return model

    monkeypatch.setattr(results, "finetune", finetune)
    monkeypatch.setattr("engine.flow.cluster.cluster", lambda *_, **__: nullcontext())
    monkeypatch.setattr(results, "mine_scenes", lambda plan: RunDirectory.at(str(tmp_path / "run")))
    chosen = plan(tmp_path, "full", "lora")
    found = make(chosen)
    assert asked == [("full", 0), ("lora", 0), ("full", 1), ("lora", 1)]
    assert isinstance(found.before.seeds[0]["poems"], SetRanks)
    target = tmp_path / "page.md"
    write_page(chosen, found, target)
    text = target.read_text()
    assert "--scenes 4 --images 12 --seeds 2 --methods full lora\n" in text
    assert "| lora |" in text and "](page.png)" in text
    # What was set by hand is part of the command, and of the table of settings.
    write_page(replace(chosen, settings=["finetune.max_steps=2"]), found, target)
    assert "--methods full lora --set finetune.max_steps=2\n" in target.read_text()
    assert (tmp_path / "page.png").read_bytes()[1:4] == b"PNG"


def test_scenes_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mined = list[str | None]()
    monkeypatch.setattr("engine.flow.mine.mine", lambda recipe, run: mined.append(recipe.images.uri))
    results.mine_scenes(plan(tmp_path))
    images = tmp_path / "4-scenes" / "images"
    tars = sorted(images.iterdir())
    written = [tar.stat().st_mtime_ns for tar in tars]
    results.mine_scenes(plan(tmp_path))
    assert [tar.stat().st_mtime_ns for tar in tars] == written
    assert mined == [str(images)] * 2 and not images.with_name("unfinished").exists()
