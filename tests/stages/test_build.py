from pathlib import Path

import pytest

from engine.encoders import EncoderName
from engine.errors import RecipeError
from engine.recipe import parse_recipe
from engine.stages import build_stages
from engine.storage import digest_settings

RECIPE = """
images: {source: folder, uri: /data}
generators: {a: {backend: scripted}, b: {backend: scripted, delay_s: 1}}
describe: {generator: a}
associate: {generator: a}
caption: {generator: a}
"""


def fingerprints(*settings: str) -> list[str]:
    return [stage.fingerprint for stage in build_stages(parse_recipe(RECIPE, settings))]


@pytest.mark.parametrize(
    "setting",
    [
        "run.parts_in_flight=7",
        "run.max_failed_share=0.5",
        "run.out=/elsewhere",
        "generators.a.actors=8",
        "generators.a.requests_in_flight=3",
        "generators.a.cpus=4",
        "images.uri=/moved",
    ],
)
def test_what_cannot_change_a_result_changes_no_fingerprint(setting: str) -> None:
    assert fingerprints(setting) == fingerprints()


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ("run.seed=1", [True, True, True]),
        ("describe.sampling.temperature=0", [True, True, True]),
        ("images.max_side=64", [True, True, True]),
        ("associate.words=2", [False, True, True]),
        ("associate.attempts=9", [False, True, True]),
        ("caption.draw=all", [False, False, True]),
        ("caption.max_words=5", [False, False, True]),
    ],
)
def test_what_decides_a_stage_changes_it_and_those_after_it(setting: str, changed: list[bool]) -> None:
    assert [old != new for old, new in zip(fingerprints(), fingerprints(setting), strict=True)] == changed


@pytest.mark.parametrize(
    ("name", "scaled"), [("python:tests.encoders.own:colours", True), ("open_clip:terrarium", False)]
)
def test_only_ones_own_encoders_vectors_are_made_anew_since_they_are_scaled(name: str, scaled: bool) -> None:
    """A table must not hold some that were left as they came, and some of length 1."""
    recipe = parse_recipe(f"images: {{source: folder, uri: /data}}\nembed: {{encoders: ['{name}']}}", ())
    (stage,) = build_stages(recipe)
    before = {
        "stage": "embed-images",
        "code": 1,
        "encoder": EncoderName.parse(name).digest(),
        "decode": "reduced",
    }
    before |= {"compute": "float32", "dtype": "float16", "max_pixels": recipe.images.max_pixels}
    assert (stage.fingerprint != digest_settings(before)) is scaled


def test_a_prompt_counts_by_its_text_not_its_place(tmp_path: Path) -> None:
    texts = {"a": "--- user ---\n$image x", "b": "--- user ---\n$image x", "c": "--- user ---\n$image y"}
    prints = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        prints[name] = fingerprints(f"caption.prompt={tmp_path / name}")
    assert prints["a"] == prints["b"] != prints["c"]
    assert prints["a"][:2] == prints["c"][:2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$image", "the line `--- user ---`"),
        ("--- user ---\nno picture", "needs $image"),
        ("--- user ---\n$image $elment", "$elment is not filled here"),
        ("--- user ---\n$image costs 5$", "a lone $"),
    ],
)
def test_a_faulty_prompt_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text(text)
    with pytest.raises(RecipeError) as refused:
        fingerprints(f"caption.prompt={path}")
    assert message in str(refused.value) and str(path) in str(refused.value)


def test_a_missing_prompt_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        fingerprints(f"describe.prompt={tmp_path / 'none.txt'}")


def test_an_architecture_that_does_not_exist_is_refused_before_images_are_cataloged() -> None:
    text = RECIPE + "embed: {encoders: ['open_clip:ViT-B-23/openai']}"
    with pytest.raises(RecipeError, match=r"open_clip has no architecture ViT-B-23; .*list_models"):
        build_stages(parse_recipe(text, ()))
