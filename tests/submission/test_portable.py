from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.recipe import Recipe, parse_recipe
from engine.submission.plan import jobs_of
from engine.submission.portable import check_paths, environment, places

_BASE = """
images: {source: webdataset, uri: "s3://b/a.tar"}
run: {out: s3://b/run}
generators: {vlm: {backend: scripted}}
"""
_FINETUNE = "finetune={method: full, model: 'open_clip:ViT-B-32/openai', data: {captions: [original]}}"
_DESCRIBE = _BASE + "describe: {generator: vlm}\n"


def recipe(text: str = _DESCRIBE, *settings: str) -> Recipe:
    return parse_recipe(text, settings)


@pytest.mark.parametrize("uri", ["/data/a.tar", "s3://b/a.tar", "gs://b/a.tar", "file:///data/a.tar"])
def test_paths_that_mean_the_same_everywhere(uri: str) -> None:
    check_paths(recipe(_DESCRIBE, f"images.uri={uri}", f"run.out={uri}"))


@pytest.mark.parametrize("uri", ["data/a.tar", "a.tar", "./a.tar", "~/a.tar", "{0..3}.tar"])
def test_paths_that_do_not_are_refused(uri: str) -> None:
    found = recipe(_DESCRIBE, f"images.uri='{uri}'", f"run.out='{uri}'")
    with pytest.raises(RecipeError, match="unpacked working directory") as told:
        check_paths(found)
    assert f"images.uri: '{uri}'" in str(told.value)
    assert f"run.out: '{uri}'" in str(told.value)


def test_every_setting_that_names_data_is_looked_at() -> None:
    settings = ["images.source=coco", "images.annotations=captions.json", "images.uri=[/a, b]"]
    settings += ["embed={encoders: ['connote:runs/mine/models/full']}"]
    settings += ["evaluate={models: [m], sets: [{name: far, run: runs/far}]}"]
    with pytest.raises(RecipeError) as told:
        check_paths(recipe(_DESCRIBE, *settings))
    for words in (
        "images.uri: 'b'",
        "images.annotations: 'captions.json'",
        "evaluate.sets, far: 'runs/far'",
        "embed.encoders",
    ):
        assert words in str(told.value)
    assert "'/a'" not in str(told.value)


def test_local_places_are_those_that_nodes_must_share() -> None:
    assert places(recipe()) == []
    assert places(recipe(_DESCRIBE, "run.out=/data/run")) == ["run.out /data/run"]


def test_variables_are_passed_on_by_name_only() -> None:
    here = {"TOKEN": "abc", "OTHER": "secret"}
    assert environment(["TOKEN", "A=1=2", "B="], here) == {"TOKEN": "abc", "A": "1=2", "B": ""}
    assert environment([], here) == {}


@pytest.mark.parametrize("asked", ["MISSING", "", "=x", "1A=x", "A B=x", "RAY_ADDRESS=auto"])
def test_variables_that_cannot_be_passed_on(asked: str) -> None:
    with pytest.raises(RecipeError, match="--env"):
        environment([asked], {})


def test_a_value_is_never_shown() -> None:
    with pytest.raises(RecipeError) as told:
        environment(["MY-KEY=geheim"], {})
    assert "geheim" not in str(told.value)


def test_a_recipe_with_a_stage_is_one_job(tmp_path: Path) -> None:
    path = tmp_path / "my recipes" / "one.yaml"
    found = recipe(_DESCRIBE, _FINETUNE)
    [job] = jobs_of(found, path, tmp_path, ["--set", "run.seed=2 # x"])
    assert job.name == "mine"
    assert job.command == "python -m jobs.mine 'my recipes/one.yaml' --set 'run.seed=2 # x'"


def test_without_a_stage_each_section_has_its_own(tmp_path: Path) -> None:
    settings = [_FINETUNE, "evaluate={models: [m], sets: [{name: far, run: /runs/far}]}"]
    found = jobs_of(recipe(_BASE, *settings), tmp_path / "r.yaml", tmp_path, [])
    assert [job.command for job in found] == [
        "python -m jobs.evaluate r.yaml",
        "python -m jobs.finetune r.yaml",
    ]


def test_a_recipe_of_nothing_and_one_from_outside_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no section that computes anything"):
        jobs_of(recipe(_BASE), tmp_path / "r.yaml", tmp_path, [])
    with pytest.raises(RecipeError, match="outside the working directory"):
        jobs_of(recipe(), tmp_path / "r.yaml", tmp_path / "work", [])
