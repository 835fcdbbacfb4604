"""Sets that bring their own negatives, categories and captions, and preferences: as users run them."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from sklearn.metrics import average_precision_score

from engine.flow.preference import is_preferred
from engine.rundir import RunDirectory
from jobs.show import status_lines
from tests.command import connote, finish

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

MODELS = [f"python:tests.flow.seers:{name}" for name in ("dim", "doubting")]
SAMPLES = 24
SET = {"name": "imp", "negatives": "field:failed", "categories": "field:level", "reference": "imp"}
PLAIN = {"name": "plain"}
FIELD = {"name": "other", "captions": "field:also", "categories": "field:kind"}


def png(colour: list[int]) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), tuple(colour)).save(sink, "PNG")
    return sink.getvalue()


def rows() -> list[dict[str, Any]]:
    """Pictures with one or two captions and their levels, captions that failed, and others beside."""
    rng, made = np.random.default_rng(1), list[dict[str, Any]]()
    for index in range(SAMPLES):
        colour = rng.integers(0, 256, 3).tolist()
        wrong = (np.array(colour) + rng.integers(-60, 61, 3)).tolist()
        said = [" ".join(map(str, [*colour, vague])) for vague in (0, 90)[: 1 + index % 2]]
        levels = [("easy", "odd", "hard", None)[(index + place) % 4] for place in range(len(said))]
        failed = [" ".join(map(str, [*wrong, vague])) for vague in (0, 30)[: 1 + (index == 4)]]
        made.append(
            {
                "key": f"{index:02d}",
                "image": b"broken" if index == 2 else png(colour),
                "captions": said,
                "level": levels,
                "failed": [] if index == 7 else failed,
                "also": said[:1] if index % 3 else [],
                "kind": "zoo" if index % 2 else "animals",
                "short": ["easy"],
                "nothing": None,
            }
        )
    return made


def write_recipe(path: Path, source: dict[str, Any], **sections: Any) -> Path:
    recipe = {
        "images": source,
        "run": {"part_rows": 5, "max_failed_share": 0.2},
        "embed": {"encoders": MODELS, "texts": ["original", "field:failed", "field:also"], "cpus": 0.5},
        **sections,
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def evaluating(*sets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"models": MODELS, "sets": [*sets], "draws": 20, "cpus": 0.5, **more}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("own") / "set.parquet"
    kinds = {"nothing": pa.list_(pa.string())}
    columns = {name: pa.array([row[name] for row in rows()], kinds.get(name)) for name in rows()[0]}
    pq.write_table(pa.table(columns), place, row_group_size=7)
    return {"source": "parquet", "uri": str(place), "caption_column": "captions", "key_column": "key"}


@pytest.fixture(scope="module")
def whole(
    source: dict[str, Any], on_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("run")
    script = {"backend": "scripted", "script": "tests.flow.doubts:say", "cpus": 0.5}
    asked = {"generators": {"vlm": script}, "vqascore": {"generator": "vlm"}}
    recipe = write_recipe(root / "recipe.yaml", source, **asked, evaluate=evaluating(SET, PLAIN, FIELD))
    finish("run", recipe, "--out", root / "out")
    return root / "out", recipe


def vectors(out: Path, of: str, model: str) -> dict[str, Any]:
    """Of an image (k, d), of captions a list of (d,), by key."""
    name, found = model.rpartition(":")[2], dict[str, Any]()
    for path in out.glob(f"stages/embed-{of}-*{name}-*/part-*.parquet"):
        for row in pq.read_table(path).to_pylist():
            value = row["vector"] if of == "images" else row["vectors"]
            if value:
                found[row["key"]] = np.atleast_2d(np.array(value, np.float64))
    return found


def cosine(image: np.ndarray, caption: np.ndarray) -> float:
    return float((image @ caption).max())


def figures(out: Path, name: str, model: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The rows of a set and model; of recalls those with the natural denominators."""
    return {
        (row["way"], row["category"], row["figure"]): row
        for row in pq.read_table(out / "evaluation/figures.parquet").to_pylist()
        if (row["set"], row["model"], row["reading"]) == (name, model, "natural")
    }


@pytest.mark.parametrize("model", MODELS)
def test_own_negatives_and_categories_are_those_of_scikit_learn(whole: tuple[Path, Path], model: str) -> None:
    out, _ = whole
    images, captions, failed = (vectors(out, of, model) for of in ("images", "original", "field-failed"))
    assert len(images) == SAMPLES - 1
    levels, own = list[str | None](), list[float]()
    for row in rows():
        if row["key"] in images:
            levels += row["level"]
            own += [cosine(images[row["key"]], caption) for caption in captions[row["key"]]]
    refused = [cosine(image, caption) for key, image in images.items() for caption in failed.get(key, ())]
    assert len(refused) == SAMPLES - 1, "one image has two, and one has none"
    found = figures(out, "imp", model)
    categories = list(dict.fromkeys(category for way, category, _ in found if way == "pairs"))
    assert categories == ["all", "easy", "hard", "odd"]
    for category in categories:
        mine = [score for score, level in zip(own, levels, strict=True) if category in ("all", level)]
        area = average_precision_score([1] * len(mine) + [0] * len(refused), mine + refused)
        reached, base = (found["pairs", category, figure] for figure in ("AUPRC", "base rate"))
        assert reached["value"] == pytest.approx(area) and reached["count"] == len(mine)
        assert base["value"] == pytest.approx(len(mine) / (len(mine) + len(refused)))
    drawn = figures(out, "plain", model)["pairs", "all", "AUPRC"]
    assert drawn["value"] != found["pairs", "all", "AUPRC"]["value"]
    assert {category for _, category, _ in figures(out, "plain", model)} == {"all"}
    similarities = [pq.read_table(path) for path in out.glob("evaluation/*-similarities.parquet")]
    kinds = [set(table["pairs"].to_pylist()) for table in similarities]
    assert kinds.count({"all", "easy", "hard", "odd", "others"}) == len(MODELS)


def test_the_page_tells_of_them(whole: tuple[Path, Path]) -> None:
    out, _ = whole
    page = (out / "evaluation/tables.md").read_text()
    mine, plain, other = page.split("\n## ")[1:]
    assert (
        f"Pairs that do not match: {SAMPLES - 1} captions refused for their very image (field:failed)" in mine
    )
    assert "Categories: labels of the source (field:level)." in mine and "| EVA02 (IMP, Table 6) |" in mine
    assert "AUPRC, easy | base rate | AUPRC, hard | base rate | AUPRC, odd | base rate |" in mine
    assert "refused for" not in plain and "Categories" not in plain
    assert "AUPRC, animals" in other and "AUPRC, zoo" in other
    assert (out / "evaluation/auprc-imp.png").read_bytes().startswith(b"\x89PNG")


def test_a_field_is_a_set_of_captions(whole: tuple[Path, Path]) -> None:
    out, _ = whole
    images, captions = vectors(out, "images", MODELS[0]), vectors(out, "field-also", MODELS[0])
    with_any = [row for row in rows() if row["also"] and row["key"] in images]
    found = figures(out, "other", MODELS[0])
    score = found["pairs", "all", "CLIPScore"]
    assert (score["texts"], score["images"], score["count"]) == (len(with_any), SAMPLES - 1, len(with_any))
    for category in ("animals", "zoo"):
        mine = [row["key"] for row in with_any if row["kind"] == category]
        told = found["pairs", category, "CLIPScore"]
        assert told["value"] == pytest.approx(np.mean([cosine(images[k], captions[k][0]) for k in mine]))


def test_vqascores_have_the_same_categories(whole: tuple[Path, Path]) -> None:
    out, _ = whole
    tables = [
        pq.read_table(path).to_pylist() for path in out.glob("stages/vqascore-original-*/part-*.parquet")
    ]
    scored = {row["key"]: row["scores"] for table in tables for row in table if row["scores"]}
    by_level: dict[str | None, list[float]] = {}
    for row in rows():
        for level, score in zip(row["level"], scored.get(row["key"], ()), strict=False):
            if score is not None:
                by_level.setdefault(level, []).append(score)
    found = figures(out, "imp", "vqascore:vlm")
    assert {category for _, category, _ in found} == {"all", "easy", "hard", "odd"}
    for level in ("easy", "hard", "odd"):
        told = found["pairs", level, "VQAScore"]
        assert told["value"] == pytest.approx(np.mean(by_level[level]))
        assert told["count"] == len(by_level[level])


def test_a_set_is_measured_again_where_what_decides_it_changed(whole: tuple[Path, Path]) -> None:
    out, _ = whole
    run, would = RunDirectory.at(str(out)), "a run with this recipe would compute: "
    assert f"{would}nothing, all of it is done" in status_lines(run, None, [])
    # Labels decide the set's VQAScores, too.
    for change, left in (
        ({**SET, "categories": "field:kind"}, 3),
        ({**SET, "negatives": "field:also"}, 2),
        ({**SET, "negatives": None}, 2),
        ({**SET, "name": "renamed"}, 0),
    ):
        told = "\n".join(status_lines(run, None, [f"evaluate.sets={yaml.safe_dump([change, PLAIN, FIELD])}"]))
        wanted = f"measure {left} of 8 pairs of a model and a set" if left else "evaluate (write tables)"
        assert wanted in told, told


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (
            {"name": "a", "categories": "field:short"},
            "its field 'short' holds 1 labels for 2 captions",
        ),
        ({"name": "a", "categories": "field:key"}, None),
        ({"name": "a", "categories": "field:absent"}, None),
    ],
)
def test_labels_that_fit_and_such_as_do_not(
    whole: tuple[Path, Path], source: dict[str, Any], tmp_path: Path, chosen: dict[str, Any], said: str | None
) -> None:
    out, _ = whole
    theirs = {**chosen, "run": str(out)}
    evaluate = {**evaluating({**PLAIN, "run": str(out)}, theirs), "models": MODELS[:1]}
    recipe = write_recipe(tmp_path / "recipe.yaml", source, evaluate=evaluate)
    status, text = connote("evaluate", recipe, "--out", tmp_path / "out")
    tables = list((tmp_path / "out/evaluation").glob(f"{'?' * 16}.parquet"))
    if said:
        assert status == 2 and said in " ".join(text.split()), text
        assert "sample '01'" in text and len(tables) == 1, "what was measured before is kept"
    else:
        # The key is no field of the catalog any more, and the other never was: no pair has a category.
        assert status == 0 and len(tables) == 4, text
        assert {category for _, category, _ in figures(tmp_path / "out", "a", MODELS[0])} == {"all"}


def test_negatives_that_are_not_there(
    whole: tuple[Path, Path], source: dict[str, Any], tmp_path: Path
) -> None:
    out, _ = whole
    theirs = {"name": "a", "run": str(out), "negatives": "field:nothing"}
    recipe = write_recipe(tmp_path / "recipe.yaml", source, evaluate=evaluating(theirs))
    status, text = connote("evaluate", recipe, "--out", tmp_path / "out")
    assert status == 2 and "does not embed field:nothing captions (embed.texts)" in text, text
    assert not (tmp_path / "out").exists()
    # Their vectors are there, and there are none of them.
    shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("evaluation"))
    embed = {"encoders": MODELS[:1], "texts": ["original", "field:nothing"], "cpus": 0.5}
    evaluate = {**evaluating({"name": "a", "negatives": "field:nothing"}), "models": MODELS[:1]}
    recipe = write_recipe(tmp_path / "recipe.yaml", source, embed=embed, evaluate=evaluate)
    status, text = connote("run", recipe, "--out", tmp_path / "out")
    assert status == 2 and "evaluate.sets, a, negatives: no image has a caption (field:nothing)" in text, text


#: Of each text its pictures: right ones, and others.
CHOICES: dict[str, tuple[list[list[int]], list[list[int]]]] = {
    "200 10 10 0": ([[210, 20, 15]], [[10, 200, 10]]),
    "10 200 10 0": ([[200, 10, 200]], [[12, 190, 14]]),
    "20 20 220 0": ([[25, 25, 200], [220, 20, 20]], [[40, 90, 200], [90, 220, 20], [30, 30, 190]]),
    "90 220 160 0": ([[90, 220, 160]], [[90, 220, 160]]),
    "250 240 10 0": ([[250, 230, 20]], []),
    "10 150 150 0": ([], [[20, 140, 160], [15, 150, 150]]),
}
PREFERENCE = {"name": "cot", "preferred": "*CoT*"}


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Folders named by a text, below one whose name must not count; a picture is broken."""
    root = tmp_path_factory.mktemp("choices")
    for text, sides in CHOICES.items():
        folder = root / "CoT" / text
        folder.mkdir(parents=True)
        for side, colours in zip(("DALLE_CoT", "DALLE"), sides, strict=True):
            for number, colour in enumerate(colours):
                (folder / f"{side}{number}.png").write_bytes(png(colour))
    (root / "CoT" / "10 150 150 0" / "DALLE_CoT.png").write_bytes(b"broken")
    return {"source": "folder", "uri": str(root), "caption_from": "folder_name"}


@pytest.fixture(scope="module")
def preferring(
    choices: dict[str, Any], on_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("preferring")
    embed = {"encoders": MODELS, "texts": ["original"], "cpus": 0.5}
    evaluate = evaluating(preferences=[PREFERENCE])
    recipe = write_recipe(root / "recipe.yaml", choices, embed=embed, evaluate=evaluate)
    finish("run", recipe, "--out", root / "out")
    return root / "out", recipe


@pytest.mark.parametrize("model", MODELS)
def test_a_preference_is_that_of_all_pairs(preferring: tuple[Path, Path], model: str) -> None:
    out, _ = preferring
    images, captions = vectors(out, "images", model), vectors(out, "original", model)
    shares = list[float]()
    for text in CHOICES:
        scores = {key: cosine(image, captions[key][0]) for key, image in images.items() if f"/{text}/" in key}
        ours = [score for key, score in scores.items() if "DALLE_CoT" in key]
        theirs = [score for key, score in scores.items() if "DALLE_CoT" not in key]
        won = [1 if one > other else 0.5 if one == other else 0 for one in ours for other in theirs]
        shares += [float(np.mean(won))] if won else []
    assert len(shares) == 4 and {0.5, 1.0} <= {*shares} and (model != MODELS[0] or 0.0 in shares)
    row = figures(out, "cot", model)["preference", "all", "preference"]
    assert row["value"] == pytest.approx(np.mean(shares))
    assert row["low"] <= row["value"] <= row["high"]
    pictures = sum(len(side) for sides in CHOICES.values() for side in sides)
    assert (row["count"], row["texts"], row["images"], row["without"]) == (4, 6, pictures, 1)
    page = (out / "evaluation/tables.md").read_text()
    assert f"| cot | {model} | {100 * row['value']:.1f} [" in page and f"] | 4 | 2 | {pictures} | 1 |" in page
    assert not list(out.glob("evaluation/*.png"))


def test_a_preference_is_not_measured_again(preferring: tuple[Path, Path], tmp_path: Path) -> None:
    out, recipe = preferring
    shutil.copytree(out, tmp_path / "out")
    assert "evaluating" not in finish("evaluate", recipe, "--out", tmp_path / "out")
    run = RunDirectory.at(str(tmp_path / "out"))
    assert "would compute: nothing" in "\n".join(status_lines(run, None, []))
    other = yaml.safe_dump([{**PREFERENCE, "preferred": "DALLE[0-9]*"}])
    told = "\n".join(status_lines(run, None, [f"evaluate.preferences={other}"]))
    assert "evaluate (measure 2 of 2 pairs of a model and a set)" in told
    # The other side's score is what is missing to one, and ties are half of both.
    finish("evaluate", recipe, "--out", tmp_path / "out", "--set", f"evaluate.preferences={other}")
    for model in MODELS:
        one, two = (
            figures(root, "cot", model)["preference", "all", "preference"] for root in (out, tmp_path / "out")
        )
        assert one["value"] + two["value"] == pytest.approx(1) and one["count"] == two["count"]


def test_a_preference_of_nothing(preferring: tuple[Path, Path], tmp_path: Path) -> None:
    out, recipe = preferring
    shutil.copytree(out, tmp_path / "out")
    nobody = yaml.safe_dump([{**PREFERENCE, "preferred": "midjourney*"}])
    status, text = connote(
        "evaluate", recipe, "--out", tmp_path / "out", "--set", f"evaluate.preferences={nobody}"
    )
    assert status == 2, text
    assert "evaluate.preferences, cot: none of 6 texts (original) has both an image that matches" in text
    assert "'midjourney*' and one that does not; 0 of" in text


@pytest.mark.parametrize(
    ("glob", "key", "uri", "preferred"),
    [
        ("*CoT*", "CoT/a/DALLE", "/x/CoT/a/DALLE.png", False),
        ("*CoT*", "a/DALLE_CoT", "/x/a/DALLE_CoT.png", True),
        ("*cot*", "a/DALLE_CoT", "/x/a/DALLE_CoT.png", False),
        ("*.png", "a/DALLE", "/x/a/DALLE.png", True),
        ("*CoT*", "0001", "s3://b/CoT.tar", False),
        ("CoT/*", "CoT/a/DALLE", "/x/CoT/a/DALLE.png", True),
        ("*/DALLE", "CoT/a/DALLE", "/x/CoT/a/DALLE.png", True),
    ],
)
def test_right_images_by_their_names(glob: str, key: str, uri: str, preferred: bool) -> None:
    assert is_preferred(glob, key, uri) is preferred
