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
    VQAScore,
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


@pytest.mark.parametrize(
    ("written", "auto", "least", "most"),
    [
        ("3", False, 3, 3),
        ("{min: 2, max: 4}", False, 2, 2),
        ("auto", True, 1, None),
        ("{min: 2, max: auto}", True, 2, None),
        ("{min: auto, max: 4}", True, 1, 4),
    ],
)
def test_how_many_actors_a_pool_begins_with(written: str, auto: bool, least: int, most: int | None) -> None:
    actors = parse_recipe(MINIMAL, [f"generators.vlm.actors={written}"]).generators["vlm"].actors
    assert (actors.auto, actors.least, actors.most) == (auto, least, most)


def test_a_dumped_recipe_loads_as_the_same(tmp_path: Path) -> None:
    recipe = parse_recipe(MINIMAL)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("describe.generatr=vlm", "describe.generatr: unknown key; did you mean 'generator'?"),
        ("generators.vlm.cpu=1", "generators.vlm.cpu: unknown key; did you mean 'cpus'?"),
        ("generators.vlm.gpus=1.5", "is 1.5; an actor has a share of one GPU (up to 1) or several whole"),
        ("generators.vlm.gpu_type=H100", "`gpu_type` is H100, and `gpus` is 0; say how many"),
        ("generators.vlm.share=2", "`share` belongs to `actors: auto`"),
        ("generators.vlm.actors=many", "generators.vlm.actors: 'many' is no size of a pool; write a number"),
        ("generators.vlm.actors={min: auto, max: 0}", "generators.vlm.actors: 0 is no size of a pool"),
        ("generators.vlm.actors={least: 2}", "generators.vlm.actors.least: unknown key"),
        ("caption={generator: vlm, draw: two}", "caption.draw: Input should be a valid integer"),
        ("describe.generator=other", "describe.generator: 'other' is not under generators (vlm)"),
        ("caption={generator: vlm}", "caption needs the section associate"),
        ("run.part_rows=0", "run.part_rows: Input should be greater than or equal to 1; it is 0"),
        ("caption={generator: vlm, levels: concept}", "caption.levels: write a list, as [concept]; it is"),
        ("generators.vlm.backend=vlm", "generators.vlm"),
        ("generators.vlm.actors={min: 3, max: 2}", "max (2) is below min (3)"),
        (
            "images.annotations=a.json",
            "`annotations` is needed by sources coco, karpathy and poems, and by no other",
        ),
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
    for section in (Images, Run, Vllm, OpenAI, Scripted, Describe, Associate, Caption, VQAScore):
        for name in section.model_fields:
            assert f"| `{name}`" in page, f"docs/recipe.md says nothing of {section.__name__}.{name}"


MEASURED = """
images: {source: folder, uri: /data}
embed: {encoders: ["hf:a/looks", "hf:a/words"], texts: [original]}
cluster: {encoder: "hf:a/looks"}
sample: {count: 10}
polysemy: {image_encoder: "hf:a/looks", text_encoder: "hf:a/words"}
"""


def test_what_is_measured_has_defaults() -> None:
    recipe = parse_recipe(MEASURED)
    assert recipe.cluster and recipe.sample and recipe.polysemy
    assert recipe.cluster.mode == "seeded" and recipe.cluster.backend == "auto"
    assert recipe.polysemy.texts == ("original",) and recipe.polysemy.radius == "neighbours"
    assert recipe.polysemy.radii == (0, 1, 2, 5, 10, 25, 50, 100)
    assert parse_recipe(dump_recipe(recipe)) == recipe
    assert recipe.stages() == []


@pytest.mark.parametrize(
    "changes",
    [
        ("cluster=null", "sample=null"),
        ("polysemy=null",),
        ("sample=null",),
        ("polysemy.radius=map", "polysemy.radii=[0, 0.25, 1.5]"),
        ("polysemy.radii=[0]",),
        ("polysemy.radii=[3, 4.0]",),
        ("cluster.gpus=0.5", "cluster.cpus=0.5", "cluster.min_dist=0", "cluster.epsilon=0.3"),
    ],
)
def test_what_can_be_measured(changes: tuple[str, ...]) -> None:
    assert parse_recipe(MEASURED, changes).images


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("cluster.encoder='hf:a/other'",),
            "cluster.encoder: 'hf:a/other' is not one of embed.encoders (hf:a/looks, hf:a/words); add it",
        ),
        (("polysemy.image_encoder='hf:a/b'",), "polysemy.image_encoder: 'hf:a/b' is not one of embed.enc"),
        (("polysemy.text_encoder='hf:a/b'",), "polysemy.text_encoder: 'hf:a/b' is not one of embed.enc"),
        (("embed=null",), "cluster.encoder: 'hf:a/looks' is not one of embed.encoders (none)"),
        (
            ("embed=null", "cluster=null", "sample=null"),
            "polysemy.image_encoder: 'hf:a/looks' is not one of embed.encoders (none)",
        ),
        (("embed.texts=[]",), "polysemy.texts: original captions are not among embed.texts"),
        (("polysemy.texts=[original, mined]",), "polysemy.texts: mined captions are not among embed.texts"),
        (("polysemy.texts=[]",), "polysemy.texts: name original, mined or both, each once"),
        (("polysemy.texts=[original, original]",), "polysemy.texts: name original, mined or both, each once"),
        (("cluster=null",), "sample needs the section cluster: it samples on its map"),
        (
            ("cluster=null", "sample=null", "polysemy.radius=map"),
            "polysemy.radius: map needs the section cluster",
        ),
        (("polysemy.radius=far",), "polysemy.radius: Input should be 'neighbours' or 'map'"),
        (("polysemy.radii=[0, 5, 1]",), "polysemy.radii: name radii from 0 up, each larger than the one"),
        (("polysemy.radii=[-1, 5]",), "polysemy.radii: name radii from 0 up"),
        (("polysemy.radii=[1, 1]",), "polysemy.radii: name radii from 0 up"),
        (("polysemy.radii=[]",), "polysemy.radii: name radii from 0 up"),
        (("polysemy.radii=[0, .inf]",), "Input should be a finite number"),
        (("polysemy.radii=[.nan]",), "Input should be a finite number"),
        (("polysemy.radii=[0, 2.5]",), "polysemy: radii: 2.5 is no number of neighbours"),
        (
            ("cluster.min_clustersize=5",),
            "cluster.min_clustersize: unknown key; did you mean 'min_cluster_size'?",
        ),
        (("cluster.neighbors=5",), "cluster.neighbors: unknown key; did you mean 'neighbours'?"),
        (("sample.cuont=5",), "sample.cuont: unknown key; did you mean 'count'?"),
        (("polysemy.querys=5",), "polysemy.querys: unknown key; did you mean 'queries'?"),
        (("cluster={min_samples: 3}",), "cluster.encoder: Field required"),
        (("cluster.mode=fast",), "cluster.mode: Input should be 'seeded' or 'scale'"),
        (("cluster.backend=gpu",), "cluster.backend: Input should be 'auto', 'cpu' or 'cuml'"),
        (("cluster.fit_rows=0",), "cluster.fit_rows: Input should be greater than or equal to 10"),
        (("cluster.min_dist=1.5",), "cluster.min_dist: Input should be less than or equal to 1"),
        (("cluster.dimensions=1",), "cluster.dimensions: Input should be greater than or equal to 2"),
        (("cluster.min_cluster_size=1",), "cluster.min_cluster_size: Input should be greater than or equal"),
        (("cluster.fit_rows=50",), "cluster: fit_rows (50) must be above min_cluster_size (50)"),
        (("cluster.actors=0",), "cluster.actors: Input should be greater than or equal to 1"),
        (("sample.count=0",), "sample.count: Input should be greater than or equal to 1"),
        (("polysemy.cluster_rows=1",), "polysemy.cluster_rows: Input should be greater than or equal to 2"),
    ],
)
def test_what_cannot_be_measured(changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(MEASURED, changes)
    assert message in str(refused.value)


DIVIDED = """
images: {source: folder, uri: /data}
embed: {encoders: [paper, "hf:a/looks"], texts: [original]}
difficulty: {}
evaluate: {models: [paper, "hf:a/looks"]}
"""


def test_the_papers_models_by_one_word() -> None:
    recipe = parse_recipe(DIVIDED, [])
    assert recipe.embed and recipe.difficulty and recipe.evaluate
    assert len(recipe.difficulty.voters) == 7 and all(
        "quickgelu/openai" in v for v in recipe.difficulty.voters[:6]
    )
    assert recipe.embed.encoders == (*recipe.difficulty.voters, "hf:a/looks") == recipe.evaluate.models
    assert parse_recipe(DIVIDED, ["difficulty.voters=paper"]).difficulty == recipe.difficulty
    # What is kept beside a run names them one by one.
    assert parse_recipe(dump_recipe(recipe), []) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("difficulty.voters=[]", "difficulty.voters: name at least one"),
        ("difficulty.voters=[paper, paper]", "difficulty.voters: name at least one, and each once"),
        ("difficulty.voters=7", "difficulty.voters: "),
        ("difficulty.voters=['hf:b/other']", "difficulty.voters: 'hf:b/other' is not one of embed.encoders"),
        ("difficulty.captions=[metaphor]", "difficulty.captions: mined captions are not among embed.texts"),
        ("difficulty.calibration.captions=mined", "difficulty.calibration.captions: mined captions are not"),
        ("difficulty.calibration.batch=1", "difficulty.calibration.batch"),
        ("evaluate.sets=[]", "evaluate: name at least one of sets and preferences"),
        ("evaluate.sets=[{name: a/b}]", "evaluate.sets"),
        (
            "evaluate.sets=[{name: a, captions: haiku}]",
            "'haiku' is not known; write original, mined, synonym",
        ),
        ("evaluate.sets=[{name: a, captions: 'field:'}]", "'field:' is not known"),
        (
            "evaluate.sets=[{name: a, captions: 'field:b'}]",
            "evaluate.sets, a: field:b captions are not among",
        ),
        ("evaluate.sets=[{name: a, negatives: 'field:b'}]", "evaluate.sets, a: field:b captions are not"),
        ("evaluate.sets=[{name: a, negatives: original}]", "'original' names no field; write field:NAME"),
        ("evaluate.sets=[{name: a, categories: level}]", "'level' names no field; write field:NAME"),
        ("evaluate.preferences=[{name: p, preferred: ''}]", "evaluate.preferences.0.preferred"),
        ("evaluate.preferences=[{name: p, prefered: x}]", "unknown key; did you mean 'preferred'?"),
        (
            "evaluate.preferences=[{name: p, preferred: x, captions: mined}]",
            "evaluate.preferences, p: mined captions are not",
        ),
        ("evaluate.preferences=[{name: original, preferred: x}]", "give each of both a name of its own"),
        ("embed.texts=[original, poems]", "'poems' is not known; write original, mined, or field:NAME"),
        ("embed.texts=['field:a', 'field:a']", "name each of original, mined, field:NAME once"),
        ("evaluate.models=[]", "evaluate.models: name at least one model"),
    ],
)
def test_divisions_and_evaluations_that_cannot_be_made(change: str, message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(DIVIDED, [change])
    assert message in str(refused.value)
