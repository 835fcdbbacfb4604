"""Difficulty and evaluation over a run's vectors: as users run them, against brute force, and refused."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from sklearn.metrics import average_precision_score

from engine.clustering.drawing import lots
from engine.difficulty.agreement import kappa
from engine.evaluation.negatives import draw_others
from engine.flow import ranks
from engine.retrieval.figures import WAYS
from engine.rundir import RunDirectory
from jobs.show import status_lines
from tests.command import connote, finish
from tests.flow import runs
from tests.flow.seers import PART_ROWS, SAMPLES, add, write_pictures

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

VOTERS = [f"python:tests.flow.seers:{name}" for name in ("keen", "dim", "blind")]
DOUBTING = "python:tests.flow.seers:doubting"
DIFFICULTY: dict[str, Any] = {"voters": VOTERS, "calibration": {"batch": 8}, "repeats": 4, "cpus": 0.5}
EVALUATE: dict[str, Any] = {"models": [*VOTERS, DOUBTING], "draws": 20, "cpus": 0.5}


def write_recipe(path: Path, images: Path, **sections: Any) -> Path:
    recipe = {
        "images": {"source": "webdataset", "uri": str(images)},
        "run": {"part_rows": PART_ROWS, "max_failed_share": 0.1},
        "embed": {"encoders": [*VOTERS, DOUBTING], "texts": ["original"], "cpus": 0.5},
        **sections,
    }
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "tars")


@pytest.fixture(scope="module")
def whole(pictures: Path, on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run of both, its recipe, and what it said."""
    root = tmp_path_factory.mktemp("whole")
    recipe = write_recipe(root / "recipe.yaml", pictures, difficulty=DIFFICULTY, evaluate=EVALUATE)
    return root / "out", recipe, finish("run", recipe, "--out", root / "out")


def embedded(out: Path, model: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[str, int]]]:
    """Image vectors (n, k, d), caption vectors (m, d), owners (m,), and each caption's key and place."""
    name = model.rpartition(":")[2]
    images: dict[str, Any] = {}
    for path in sorted(out.glob(f"stages/embed-images-*{name}-*/part-*.parquet")):
        images |= {row["key"]: row["vector"] for row in pq.read_table(path).to_pylist() if row["vector"]}
    keys, texts, owners, cells = list(images), [], [], []
    for path in sorted(out.glob(f"stages/embed-original-*{name}-*/part-*.parquet")):
        for row in pq.read_table(path).to_pylist():
            for place, vector in enumerate((row["vectors"] or []) if row["key"] in images else []):
                texts.append(vector)
                owners.append(keys.index(row["key"]))
                cells.append((row["key"], place))
    vectors = np.array([images[key] for key in keys], np.float64)
    vectors = vectors[:, None] if vectors.ndim == 2 else vectors
    return vectors, np.array(texts, np.float64), np.array(owners), cells


def brute_ranks(scores: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m,) twice: of each text for its image, and of each image for its text; no two are equal."""
    texts = [1 + (scores[owner] > scores[owner, text]).sum() for text, owner in enumerate(owners)]
    images = [1 + (scores[:, text] > scores[owner, text]).sum() for text, owner in enumerate(owners)]
    return np.array(texts), np.array(images)


def categories(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What is told of each pair."""
    found = {}
    for path in out.glob("difficulty/*/pairs/part-*.parquet"):
        for row in pq.read_table(path).to_pylist():
            told = zip(row["categories"], row["votes"], row["similarities"], strict=True)
            for place, (category, votes, scores) in enumerate(told):
                found[row["key"], place] = {"category": category, "votes": votes, "scores": scores}
    return found


@pytest.mark.parametrize("model", [*VOTERS, DOUBTING])
def test_figures_are_those_of_brute_force(whole: tuple[Path, Path, str], model: str) -> None:
    out, _, _ = whole
    images, texts, owners, cells = embedded(out, model)
    assert len(images) == SAMPLES - 1 and len(texts) > SAMPLES
    scores = np.einsum("nkd,md->nmk", images, texts).max(axis=2)
    of_texts, of_images = brute_ranks(scores, owners)
    rows = [
        row for row in pq.read_table(out / "evaluation/figures.parquet").to_pylist() if row["model"] == model
    ]
    found = {(row["way"], row["category"], row["reading"], row["figure"]): row for row in rows}
    first = found[WAYS[1], "all", "natural", "R@1"]
    assert (first["images"], first["texts"], first["without"]) == (SAMPLES - 1, len(texts), 1)
    for k in (1, 5, 10):
        assert found[WAYS[1], "all", "natural", f"R@{k}"]["value"] == pytest.approx((of_images <= k).mean())
        hits = [(of_texts[owners == owner] <= k).any() for owner in np.unique(owners)]
        assert found[WAYS[0], "all", "natural", f"R@{k}"]["value"] == pytest.approx(np.mean(hits))
    assert found[WAYS[0], "all", "natural", "meanR"]["value"] == pytest.approx(of_texts.mean())
    assert found[WAYS[1], "all", "natural", "medR"]["value"] == np.median(of_images)
    other = scores[np.arange(len(images)), draw_others(owners, len(images), 0)]
    told, own = categories(out), scores[owners, np.arange(len(owners))]
    for category in ("easy", "medium", "hard"):
        mine = np.array([told[cell]["category"] == category for cell in cells])
        assert mine.any()
        natural, paper = (found[WAYS[1], category, reading, "R@5"] for reading in ("natural", "paper"))
        labels = np.repeat([True, False], [mine.sum(), len(other)])
        area = average_precision_score(labels, np.concatenate([own[mine], other]))
        assert found["pairs", category, "natural", "AUPRC"]["value"] == pytest.approx(area)
        assert natural["value"] == pytest.approx((of_images[mine] <= 5).mean())
        assert paper["value"] == pytest.approx((of_images[mine] <= 5).sum() / len(owners))


def test_pairs_are_divided_by_votes(whole: tuple[Path, Path, str]) -> None:
    out, _, text = whole
    told = categories(out)
    notes = [json.loads(path.read_text()) for path in out.glob("difficulty/thresholds/*.json")]
    thresholds = {note["voter"]: note["value"] for note in notes}
    assert sorted(thresholds) == sorted(VOTERS)
    assert {note["batch"] for note in notes} == {8} and {note["pairs"] for note in notes} == {32}
    for number, voter in enumerate(VOTERS):
        images, texts, owners, cells = embedded(out, voter)
        for cell, owner, vector in zip(cells, owners, texts, strict=True):
            cosine = float(images[owner, 0] @ vector)
            assert told[cell]["scores"][number] == pytest.approx(cosine, abs=1e-6)
            assert told[cell]["votes"][number] == (cosine >= thresholds[voter])
    good = [pair for pair in told.values() if pair["category"]]
    for pair in good:
        accepting = sum(pair["votes"])
        wanted = "easy" if accepting == 3 else "hard" if accepting == 0 else "medium"
        assert pair["category"] == wanted
    # Of the broken picture there are captions, and no category.
    assert [key for (key, _), pair in told.items() if pair["category"] is None] == ["002"] * 3
    (result,) = out.glob("difficulty/*/result.json")
    about = json.loads(result.read_text())
    assert about["pairs"] == len(good) and about["without"] == 3
    assert about["counts"] == {
        name: sum(pair["category"] == name for pair in good) for name in ("easy", "medium", "hard")
    }
    codes = np.array([["easy", "medium", "hard"].index(pair["category"]) for pair in good])
    votes = np.array([pair["votes"] for pair in good])
    some = votes[:, 1:].sum(axis=1)
    without = np.where(some == 2, 0, np.where(some == 0, 2, 1))
    assert about["robustness"]["kappa_without"][0] == pytest.approx(kappa(codes, without))
    for kind in ("similarities", "auprc"):
        assert (out / f"evaluation/{kind}-original.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "difficulty/division.md").read_text()
    assert all(voter in page for voter in VOTERS) and "shares.png" in page
    assert (out / "difficulty/shares.png").read_bytes().startswith(b"\x89PNG")
    assert "division.md" in text and "tables.md" in text


def test_a_threshold_is_that_of_the_drawn_batches(whole: tuple[Path, Path, str]) -> None:
    """Against batches made here of what the tables hold, by the lots of the ids."""
    out, _, _ = whole
    (note,) = (
        json.loads(path.read_text())
        for path in out.glob("difficulty/thresholds/*.json")
        if json.loads(path.read_text())["voter"] == VOTERS[0]
    )
    assert note["others"] == 4 * 8 * 7 and note["rule"] == "f1"
    images, texts, owners, cells = embedded(out, VOTERS[0])
    ids = {}
    for path in out.glob("stages/embed-images-*keen-*/part-*.parquet"):
        ids |= {row["key"]: int(row["id"], 16) for row in pq.read_table(path).to_pylist()}
    captioned = np.unique(owners)
    keys = [cells[int(np.searchsorted(owners, owner))][0] for owner in captioned]
    numbers = np.array([ids[key] for key in keys], np.uint64)
    own = []
    for owner, lot in zip(captioned, lots(numbers, 1), strict=True):
        mine = np.flatnonzero(owners == owner)
        own.append(mine[int(lot) % len(mine)])
    order = np.argsort(lots(numbers, 0))[:32].reshape(4, 8)
    scores = [images[captioned[batch], 0] @ texts[np.array(own)[batch]].T for batch in order]
    right = np.concatenate([np.diag(each) for each in scores])
    wrong = np.concatenate([each[~np.eye(8, dtype=bool)] for each in scores])
    best = 0.0
    for threshold in np.unique(right):
        precision = (right >= threshold).sum() / ((right >= threshold).sum() + (wrong >= threshold).sum())
        best = max(
            best, 2 * precision * (right >= threshold).mean() / (precision + (right >= threshold).mean())
        )
    found = 2 * note["precision"] * note["recall"] / (note["precision"] + note["recall"])
    assert found == pytest.approx(best) and note["recall"] == pytest.approx((right >= note["value"]).mean())


def test_what_is_measured_is_not_measured_again(whole: tuple[Path, Path, str], tmp_path: Path) -> None:
    out, recipe, _ = whole
    shutil.copytree(out, tmp_path / "out")
    assert "evaluating" not in finish("evaluate", recipe, "--out", tmp_path / "out")
    assert "dividing" not in finish("difficulty", recipe, "--out", tmp_path / "out")
    # One model's figures and one part's votes are gone: only these are made again, and are the same.
    one = next(path for path in (tmp_path / "out/evaluation").glob("*.parquet") if len(path.stem) == 16)
    part = next((tmp_path / "out").glob("difficulty/*/pairs/part-*.parquet"))
    before = pq.read_table(one), pq.read_table(part)
    one.unlink(), part.unlink()
    said = finish("difficulty", recipe, "--out", tmp_path / "out")
    assert "captions of 1 parts by 3 voters" in said and "calibrating" not in said
    assert finish("evaluate", recipe, "--out", tmp_path / "out").count("evaluating") == 1
    assert pq.read_table(one).equals(before[0]) and pq.read_table(part).equals(before[1])


@pytest.mark.slow
def test_the_driver_is_killed_while_it_measures(whole: tuple[Path, Path, str], tmp_path: Path) -> None:
    """After the first threshold, with pairs divided in part, and after the first model: all ends the same."""
    undisturbed, recipe, _ = whole
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out, ignore=shutil.ignore_patterns("difficulty", "evaluation"))
    kept = killed_once(recipe, out, "difficulty/thresholds/*.json", len(VOTERS))
    finish("difficulty", recipe, "--out", out)
    # A driver that dies between two parts leaves this behind.
    next(run_files(out, "difficulty/*/result.json")).unlink()
    for part in list(run_files(out, "difficulty/*/pairs/part-*"))[1::2]:
        part.unlink()
    kept |= stamps(run_files(out, "difficulty/*/pairs/part-*"))
    kept |= killed_once(recipe, out, f"evaluation/{'?' * 16}.parquet", len(EVALUATE["models"]))
    finish("run", recipe, "--out", out)
    assert stamps(kept).items() >= kept.items(), "what was finished was made again"
    for pattern in ("difficulty/*/pairs/part-*.parquet", "evaluation/*.parquet"):
        for path in run_files(undisturbed, pattern):
            assert pq.read_table(out / path.relative_to(undisturbed)).equals(pq.read_table(path)), path
    for name in ("difficulty/division.md", "evaluation/tables.md", "evaluation/figures.csv"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name


def killed_once(recipe: Path, out: Path, pattern: str, whole: int) -> dict[Path, int]:
    """The inodes of what was finished when the driver was killed, with its processes."""
    process, started = runs.start(recipe, out), list[psutil.Process]()

    def begun() -> bool:
        started[:] = runs.descendants(process, "")
        return bool(list(run_files(out, pattern)))

    process.wait_for(begun)
    for each in (process, *started):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    psutil.wait_procs(started, timeout=60)
    kept = stamps(run_files(out, pattern))
    assert len(kept) < whole, "the kill came too late to show anything"
    return kept


def stamps(paths: Iterable[Path]) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in paths}


def test_any_slices_give_the_same_figures(
    whole: tuple[Path, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe, _ = whole
    shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("evaluation"))
    monkeypatch.setattr(ranks, "_IMAGES", 6)  # a part a task
    finish("evaluate", recipe, "--out", tmp_path / "out")
    for name in ("figures.parquet", *(path.name for path in out.glob("evaluation/*-similarities.parquet"))):
        one, other = (pq.read_table(root / "evaluation" / name) for root in (out, tmp_path / "out"))
        assert one.equals(other), name


def test_status_tells_what_is_left(whole: tuple[Path, Path, str], tmp_path: Path) -> None:
    out, _, _ = whole
    run = RunDirectory.at(str(tmp_path / "out"))
    shutil.copytree(out, tmp_path / "out")
    would = "a run with this recipe would compute: "
    again = "\n".join(status_lines(run, None, ["difficulty.repeats=7"]))
    assert f"{would}difficulty (original) (sum up)" in again
    told_anew = "\n".join(status_lines(run, None, ["evaluate.models=['python:tests.flow.seers:dim']"]))
    assert f"{would}evaluate (write tables)" in told_anew
    assert f"{would}nothing, all of it is done" in status_lines(run, None, [])
    next(run_files(tmp_path / "out", f"evaluation/{'?' * 16}.parquet")).unlink()
    assert f"{would}evaluate (measure 1 of 4 pairs of a model and a set)" in status_lines(run, None, [])
    next(run_files(tmp_path / "out", "difficulty/*/pairs/part-*")).unlink()
    next(run_files(tmp_path / "out", "difficulty/thresholds/*")).unlink()
    told = "\n".join(status_lines(run, None, []))
    assert "difficulty (original) (calibrate 1 of 3 voters, divide 1 of 8 parts, sum up)" in told
    quorum = [f"difficulty.{setting}" for setting in ("rule=quorum", "easy=2", "hard=1")]
    other = "\n".join(status_lines(run, None, quorum))
    assert "divide 8 of 8 parts" in other and "evaluate (measure 4 of 4" in other
    assert "made by other recipes or settings, and kept: difficulty/" in other


def run_files(out: Path, pattern: str) -> Iterator[Path]:
    return iter(sorted(out.glob(pattern)))


def test_equal_captions_are_one_text_if_asked(on_ray: None, tmp_path: Path) -> None:
    """Three pictures of each of six colours, and a caption that names the colour."""
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/0.tar", "w") as tar:
        for index in range(18):
            colour = [(40 + 90 * (index // 3)) % 256, 30 * (index // 3), 255 - 40 * (index // 3)]
            sink = io.BytesIO()
            Image.new("RGB", (8, 8), tuple(value + index % 3 for value in colour)).save(sink, "PNG")
            add(tar, f"{index:03d}.png", sink.getvalue())
            add(tar, f"{index:03d}.txt", " ".join(map(str, [*colour, 0])).encode())
    sets = [{"name": "apart"}, {"name": "together", "same_texts": "together"}]
    evaluate = {**EVALUATE, "models": VOTERS[:1], "sets": sets}
    embed = {"encoders": VOTERS[:1], "texts": ["original"], "cpus": 0.5}
    recipe = write_recipe(tmp_path / "recipe.yaml", tmp_path / "tars", embed=embed, evaluate=evaluate)
    finish("run", recipe, "--out", tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/evaluation/figures.parquet").to_pylist()
    found = {(row["set"], row["way"], row["figure"]): row for row in rows}
    apart, together = (found[name, WAYS[1], "mAP@R"] for name in ("apart", "together"))
    assert (apart["texts"], together["texts"]) == (18, 6)
    # Each of the six texts finds its three pictures; asked for one of three, it finds another as often.
    assert together["value"] == 1 and together["count"] == 6
    assert apart["value"] < 0.7 and apart["count"] == 18
    first = found["together", WAYS[0], "meanR"]
    assert first["value"] == 1 and first["count"] == 18
    # Equal texts stand before the match.
    assert found["apart", WAYS[0], "R@1"]["value"] == 0


def test_another_run_is_a_set_too(whole: tuple[Path, Path, str], tmp_path: Path, pictures: Path) -> None:
    out, _, _ = whole
    sets = [{"name": "theirs", "run": str(out)}]
    evaluate = {**EVALUATE, "models": VOTERS[:1], "sets": sets}
    recipe = write_recipe(tmp_path / "recipe.yaml", pictures, embed=None, evaluate=evaluate)
    finish("evaluate", recipe, "--out", tmp_path / "out")
    mine = pq.read_table(tmp_path / "out/evaluation/figures.parquet").to_pylist()
    theirs = pq.read_table(out / "evaluation/figures.parquet").to_pylist()
    assert {row["set"] for row in mine} == {"theirs"}
    assert [row["value"] for row in mine] == [row["value"] for row in theirs if row["model"] == VOTERS[0]]
    page = (tmp_path / "out/evaluation/tables.md").read_text()
    assert "## theirs" in page and "| R@5, hard |" in page


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"evaluate": {**EVALUATE, "models": ["open_clip:terrarium"]}}, "is not one of embed.encoders"),
        (
            {"difficulty": {**DIFFICULTY, "captions": ["mined"]}},
            "captions: mined captions are not",
        ),
        ({"difficulty": {**DIFFICULTY, "rule": "quorum"}}, "quorum needs `hard` below `easy`"),
        ({"difficulty": {**DIFFICULTY, "easy": 2}}, "easy and hard belong to rule: quorum"),
        ({"difficulty": {**DIFFICULTY, "rule": "tie_breaker", "voters": VOTERS[:2]}}, "an odd number"),
        ({"difficulty": {**DIFFICULTY, "draw": 4}}, "4 of 3 voters cannot be drawn"),
        (
            {"difficulty": {**DIFFICULTY, "draw": 2, "rule": "tie_breaker"}},
            "an odd number, three or more, not 2",
        ),
        (
            {"difficulty": {**DIFFICULTY, "draw": 1, "rule": "quorum", "easy": 2, "hard": 0}},
            "never reach easy: 2",
        ),
        (
            {"difficulty": {**DIFFICULTY, "voter": []}},
            "difficulty.voter: unknown key; did you mean 'voters'?",
        ),
        ({"evaluate": {**EVALUATE, "sets": [{"nam": "a"}]}}, "unknown key; did you mean 'name'?"),
        ({"evaluate": {**EVALUATE, "at": [5, 1]}}, "each larger than the one before"),
        ({"evaluate": {**EVALUATE, "sets": [{"name": "a"}, {"name": "a"}]}}, "a name of its own"),
        (
            {"difficulty": {**DIFFICULTY, "voters": [*VOTERS[:2], DOUBTING]}, "evaluate": EVALUATE},
            "there are no vectors yet",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(
    pictures: Path, tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", pictures, **sections)
    job = "evaluate" if "evaluate" in sections else "difficulty"
    status, text = connote(job, recipe, "--out", tmp_path / "out")
    assert status == 2 and said in text, text
    assert not (tmp_path / "out").exists()


def test_pairs_of_another_run_that_are_not_divided_yet(
    whole: tuple[Path, Path, str], tmp_path: Path, pictures: Path
) -> None:
    out, _, _ = whole
    shutil.copytree(out, tmp_path / "theirs", ignore=shutil.ignore_patterns("result.json"))
    sets = [{"name": "theirs", "run": str(tmp_path / "theirs")}]
    recipe = write_recipe(tmp_path / "recipe.yaml", pictures, embed=None, evaluate={**EVALUATE, "sets": sets})
    status, text = connote("evaluate", recipe, "--out", tmp_path / "out")
    assert status == 2 and "its pairs are not divided by difficulty yet; `connote difficulty" in text, text
    assert not (tmp_path / "out").exists()
