"""VQAScores of a mined run and their evaluation: against brute force, resumed and retried."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from engine.rundir import RunDirectory
from jobs.show import status_lines
from tests.command import connote, finish
from tests.flow.runs import rows
from tests.flow.seers import PART_ROWS, SAMPLES, write_pictures

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

CLIP = "open_clip:terrarium"
SETS = [{"name": "plain"}, {"name": "poetic", "captions": "metaphor"}]
SCORES = {"generator": "vlm", "captions": ["original", "mined"]}


def write_recipe(path: Path, images: Path, **sections: Any) -> Path:
    script = {"backend": "scripted", "script": "tests.flow.doubts:say", "cpus": 0.5}
    recipe = {
        "images": {"source": "webdataset", "uri": str(images)},
        "run": {"part_rows": PART_ROWS, "max_failed_share": 0.5},
        "generators": {"vlm": script},
        "describe": {"generator": "vlm"},
        "associate": {"generator": "vlm"},
        "caption": {"generator": "vlm"},
        "vqascore": SCORES,
        "embed": {"encoders": [CLIP], "texts": ["original", "mined"], "cpus": 0.5},
        "difficulty": {"voters": [CLIP], "calibration": {"batch": 8}, "repeats": 2, "cpus": 0.5},
        "evaluate": {"models": [CLIP], "sets": SETS, "draws": 20, "cpus": 0.5},
        **sections,
    }
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "tars")


@pytest.fixture(scope="module")
def whole(pictures: Path, on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run of all of it, its recipe, and what it said."""
    root = tmp_path_factory.mktemp("whole")
    recipe = write_recipe(root / "recipe.yaml", pictures)
    return root / "out", recipe, finish("run", recipe, "--out", root / "out")


def figures(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The VQAScores by set and category."""
    table = pq.read_table(out / "evaluation/figures.parquet").to_pylist()
    return {(row["set"], row["category"]): row for row in table if row["figure"] == "VQAScore"}


def captions(out: Path) -> dict[str, list[str]]:
    """What the images came with."""
    found = [pq.read_table(path).to_pylist() for path in out.glob("catalog/*.parquet")]
    return {row["key"]: row["captions"] for table in found for row in table}


def test_each_pair_has_its_score(whole: tuple[Path, Path, str]) -> None:
    out, _, said = whole
    texts, scored = captions(out), rows(out, "vqascore-original")
    assert len(scored) == SAMPLES
    assert scored["002"]["scores"] is None and "image" in scored["002"]["error"]
    assert scored["005"]["scores"] == [] and scored["005"]["error"] is None
    tired = [key for key, row in scored.items() if row["error"] == "the engine is tired"]
    halting = [key for key, row in scored.items() if row["scores"] and None in row["scores"]]
    assert tired and halting and all(len(texts[key]) == 1 for key in tired)
    for key, row in scored.items():
        assert row["error"] or len(row["scores"]) == len(texts[key])
        for text, score in zip(texts[key], row["scores"] or [], strict=False):
            question = f'Does this figure show "{text}"? Please answer yes or no.'
            expected = crc32("\0".join(["Yes", row["id"], question]).encode()) / 2**32
            assert score == pytest.approx(expected) or (score is None and text.endswith(" 0"))
    mined, made = rows(out, "vqascore-mined"), rows(out, "caption")
    for key, row in made.items():
        if row["error"] is None:
            assert len(mined[key]["scores"]) == len(row["creative_captions"]) == 20
            assert None not in mined[key]["scores"]
    assert "vqascore-original flagged: " in said and "x the engine is tired" in said


def test_the_figures_are_means_over_the_pairs(whole: tuple[Path, Path, str]) -> None:
    out, _, _ = whole
    found, scored = figures(out), rows(out, "vqascore-original")
    pairs = {
        (key, place): score
        for key, row in scored.items()
        for place, score in enumerate(row["scores"] or [])
        if score is not None
    }
    first = found["plain", "all"]
    assert first["model"] == "vqascore:vlm" and first["way"] == "pairs"
    assert first["value"] == pytest.approx(np.mean(list(pairs.values())))
    assert first["low"] < first["value"] < first["high"]
    without = sum(row["error"] is not None for row in scored.values())
    assert (first["count"], first["texts"]) == (len(pairs), len(pairs))
    assert (first["images"], first["without"]) == (SAMPLES - without, without)
    divided = [pq.read_table(path).to_pylist() for path in out.glob("difficulty/*/pairs/part-*.parquet")]
    told = {row["key"]: row["categories"] for table in divided for row in table}
    kinds = {category for categories in told.values() for category in categories or () if category}
    assert kinds >= {"easy", "hard"}
    for kind in kinds:
        mine = [score for (key, place), score in pairs.items() if told[key][place] == kind]
        assert found["plain", kind]["value"] == pytest.approx(np.mean(mine))
        assert found["plain", kind]["count"] == len(mine)
    mined = rows(out, "vqascore-mined")
    metaphors = [
        mined[key]["scores"][place]
        for key, row in rows(out, "caption").items()
        for place, item in enumerate(row["creative_captions"] or ())
        if item["level"] == "metaphor" and item["flag"] is None
    ]
    assert found["poetic", "all"]["value"] == pytest.approx(np.mean(metaphors))
    assert found["poetic", "all"]["count"] == len(metaphors)
    assert [key for key in found if key[0] == "poetic"] == [("poetic", "all")]
    page = (out / "evaluation/tables.md").read_text()
    assert f"| vqascore:vlm | {first['value']:,.4g} [" in page
    assert page.count("| vqascore:vlm |") == 2, "it stands in a table of its own"


def test_status_and_resume(whole: tuple[Path, Path, str], tmp_path: Path) -> None:
    out, recipe, _ = whole
    shutil.copytree(out, tmp_path / "out")
    run, would = RunDirectory.at(str(tmp_path / "out")), "a run with this recipe would compute: "
    assert f"{would}nothing, all of it is done" in status_lines(run, None, [])
    assert "evaluating" not in finish("evaluate", recipe, "--out", tmp_path / "out")
    answers = [path for path in (out / "evaluation").glob("*.parquet") if len(path.stem) == 16]
    (answer,) = (
        path.name
        for path in answers
        if pq.read_table(path).select(["model", "set"]).to_pylist()[0]
        == {"model": "vqascore:vlm", "set": "poetic"}
    )
    before = (tmp_path / "out/evaluation" / answer).read_bytes()
    (tmp_path / "out/evaluation" / answer).unlink()
    assert f"{would}evaluate (measure 1 of 4 pairs of a model and a set)" in status_lines(run, None, [])
    part = next(iter(sorted((tmp_path / "out").glob("stages/vqascore-mined-*/part-*"))))
    table = part.read_bytes()
    part.unlink()
    told = "\n".join(status_lines(run, None, []))
    assert f"{would}vqascore-mined for {PART_ROWS} samples, evaluate (measure 2 of 2" in told
    status, said = connote("evaluate", recipe, "--out", tmp_path / "out")
    assert status == 2 and "poetic: 1 of 8 parts of" in said and "have no VQAScores of mined" in said
    said = finish("run", recipe, "--out", tmp_path / "out")
    assert said.count("evaluating") == 1 and "evaluating vqascore:vlm on poetic" in said
    assert part.read_bytes() == table
    assert (tmp_path / "out/evaluation" / answer).read_bytes() == before
    assert "All of it leans toward" in finish("show", tmp_path / "out")


def test_a_retry_asks_again_and_the_figures_follow(whole: tuple[Path, Path, str], tmp_path: Path) -> None:
    out, recipe, _ = whole
    shutil.copytree(out, tmp_path / "out")
    said = finish("run", recipe, "--out", tmp_path / "out", "--retry-failed")
    assert "evaluating vqascore:vlm on plain" in said and f"evaluating {CLIP}" not in said
    scored = rows(tmp_path / "out", "vqascore-original")
    assert [key for key, row in scored.items() if row["error"]] == ["002"]
    before, after = figures(out)["plain", "all"], figures(tmp_path / "out")["plain", "all"]
    assert after["count"] > before["count"] and after["images"] == SAMPLES - 1


def test_another_runs_scores(whole: tuple[Path, Path, str], pictures: Path, tmp_path: Path) -> None:
    out, _, _ = whole
    nothing = dict.fromkeys(("describe", "associate", "caption", "vqascore", "embed", "difficulty"))
    evaluate = {"models": [CLIP], "sets": [{"name": "theirs", "run": str(out)}], "draws": 20, "cpus": 0.5}
    recipe = write_recipe(tmp_path / "recipe.yaml", pictures, **nothing, evaluate=evaluate)
    finish("evaluate", recipe, "--out", tmp_path / "out")
    mine, theirs = figures(tmp_path / "out"), figures(out)
    assert {key[1] for key in mine} == {key[1] for key in theirs if key[0] == "plain"}
    assert mine["theirs", "hard"]["value"] == theirs["plain", "hard"]["value"]
