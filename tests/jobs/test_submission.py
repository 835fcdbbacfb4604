"""What `connote submit`, `logs` and `stop` refuse before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import RecipeError
from tests import command
from tests.flow.runs import free_port, write_recipe


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe; whoever is asked, nobody answers."""
    work = tmp_path / "work"
    work.mkdir()
    write_recipe(work / "recipe.yaml", Path("/data/images"))
    monkeypatch.chdir(work)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{free_port()}")
    return work


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml"], "missing.yaml: No such file"),
        (
            ["recipe.yaml", "--set", "describe.generator=nobody", "--out", "/r"],
            "'nobody' is not under generators",
        ),
        (["recipe.yaml"], "run.out is not set"),
        (["recipe.yaml", "--out", "runs/mine"], "run.out: 'runs/mine'"),
        (["recipe.yaml", "--out", "/r", "--set", "images.uri=images"], "images.uri: 'images'"),
        (["recipe.yaml", "--out", "/r", "--env", "NOT_SET_HERE"], "--env NOT_SET_HERE"),
        (["../recipe.yaml", "--out", "/r"], "outside the working directory"),
        (["recipe.yaml", "--out", "/r"], "no Ray cluster answers"),
        (["recipe.yaml", "--out", "/r", "--address", "ray://head:10001"], "http://head:8265"),
    ],
)
def test_submit(work: Path, arguments: list[str], words: str) -> None:
    write_recipe(work.parent / "recipe.yaml", Path("/data/images"))
    assert words in command.finish("submit", *arguments, status=2)


def test_its_flags_are_those_of_the_run(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def jobs_of(recipe: object, path: Path, root: Path, options: list[str]) -> None:
        given.extend(options)
        raise RecipeError("seen")

    monkeypatch.setattr("engine.submission.plan.jobs_of", jobs_of)
    command.finish("submit", "recipe.yaml", "--out", "/r", "--wait", "--retry-failed", status=2)
    assert given == ["--out", "/r", "--retry-failed", "--wait"]


@pytest.mark.parametrize("arguments", [["logs", "/r"], ["logs", "/r", "--follow"], ["stop", "/r"]])
def test_nobody_answers(work: Path, arguments: list[str]) -> None:
    assert "no Ray cluster answers" in command.finish(*arguments, status=2)


def test_an_attempt_is_not_followed(work: Path) -> None:
    assert "--attempt" in command.finish("logs", "/r", "--follow", "--attempt", "2", status=2)
