from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.recipe import parse_recipe
from jobs.prepare import prepare

RECIPE = """
images: {source: folder, uri: /data}
run: {out: here, seed: 3}
generators: {vlm: {backend: scripted}}
describe: {generator: vlm}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


@pytest.mark.parametrize("out", ["runs/my run #2", "007", "null", "a: b", "[x"])
def test_out_is_taken_as_it_stands(path: Path, out: str) -> None:
    recipe, directory = prepare(path, out, ["run.out=there", "run.seed=5"])
    assert recipe == parse_recipe(RECIPE.replace("here", repr(out)), ["run.seed=5"])
    assert directory.root.uri.endswith(out)


def test_without_out_the_recipe_says_where(path: Path) -> None:
    assert prepare(path, None, [])[0].run.out == "here"
    for out, settings in (("", []), (None, ["run.out=null"])):
        with pytest.raises(RecipeError, match=r"run\.out is not set"):
            prepare(path, out, settings)
