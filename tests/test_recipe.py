from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.recipe import (
    Actors,
    Associate,
    Caption,
    Describe,
    Images,
    OpenAI,
    Run,
    Scripted,
    Vllm,
    dump_recipe,
    load_recipe,
    parse_recipe,
)

MINIMAL = """
images: {source: folder, uri: /data}
generators: {vlm: {backend: scripted}}
describe: {generator: vlm}
"""


def test_defaults_are_filled_in() -> None:
    recipe = parse_recipe(MINIMAL)
    assert [name for name, _ in recipe.stages()] == ["describe"]
    assert recipe.describe is not None and recipe.describe.attempts == 3
    assert recipe.generators["vlm"].actors == Actors(min=1, max=1)


def test_settings_override_the_file() -> None:
    recipe = parse_recipe(MINIMAL, ["run.seed=5", "generators.vlm.actors={min: 2, max: 4}"])
    assert recipe.run.seed == 5
    assert recipe.generators["vlm"].actors == Actors(min=2, max=4)


def test_a_dumped_recipe_loads_as_the_same(tmp_path: Path) -> None:
    recipe = parse_recipe(MINIMAL)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("describe.generatr=vlm", "describe.generatr: unknown key; did you mean 'generator'?"),
        ("generators.vlm.gpus=1", "generators.vlm.gpus: unknown key; did you mean 'cpus'?"),
        ("caption={generator: vlm, draw: two}", "caption.draw: Input should be a valid integer"),
        ("describe.generator=other", "describe.generator: 'other' is not under generators (vlm)"),
        ("caption={generator: vlm}", "caption needs the section associate"),
        ("run.part_rows=0", "run.part_rows: Input should be greater than or equal to 1"),
        ("generators.vlm.backend=vlm", "generators.vlm"),
        ("generators.vlm.actors={min: 3, max: 2}", "max (2) is below min (3)"),
        ("images.annotations=a.json", "`annotations` is needed by source coco, and by no other"),
        ("nonsense", "write it as section.key=value"),
        ("run.seed.x=1", "--set run.seed.x=1"),
        ("run.max_failed_share=.nan", "run.max_failed_share: Input should be a finite number"),
        ("describe.sampling={temperature: .inf}", "temperature: Input should be a finite number"),
        ("generators.vlm.delay_s=.inf", "delay_s: Input should be a finite number"),
        ("images.uri=''", "images.uri: is empty"),
        ("images.uri=[]", "images.uri: is empty"),
        ("images.uri=[/data, ' ']", "images.uri: is empty"),
    ],
)
def test_mistakes_are_named(change: str, message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(MINIMAL + "run: {seed: 1}\n", [change])
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "images: [", "!!python/object/apply:os.system ['true']"])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml"):
        load_recipe(tmp_path / "none.yaml")


def test_every_shipped_recipe_loads() -> None:
    shipped = sorted(Path("jobs/recipes").glob("*.yaml"))
    assert len(shipped) >= 2
    for path in shipped:
        assert load_recipe(path).stages()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("caption.draw=0", "caption.draw: 0 draws no association"),
        ("caption.draw=-1", "caption.draw: -1 draws no association"),
        ("caption.levels=[]", "caption.levels: name at least one level"),
        ("caption.levels=[concept, concept]", "caption.levels: name at least one level, and each once"),
        ("caption.levels=[concepts]", "caption.levels: 'concepts' is not one of synonym"),
    ],
)
def test_captions_that_cannot_be_drawn_are_refused(change: str, message: str) -> None:
    mines = MINIMAL + "associate: {generator: vlm}\ncaption: {generator: vlm, draw: all}\n"
    assert parse_recipe(mines, ["caption.draw=2", "caption.levels=[concept]"]).caption
    with pytest.raises(RecipeError) as refused:
        parse_recipe(mines, [change])
    assert message in str(refused.value)


def test_every_setting_is_explained() -> None:
    page = Path("docs/recipe.md").read_text()
    for section in (Images, Run, Vllm, OpenAI, Scripted, Describe, Associate, Caption):
        for name in section.model_fields:
            assert f"| `{name}`" in page, f"docs/recipe.md says nothing of {section.__name__}.{name}"
