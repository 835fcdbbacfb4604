"""Clustering, sampling and polysemy over a run's vectors: as users run them, killed, and refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score

from engine.clustering.tables import Clustering
from engine.embeddings import check_complete, vector_tables
from engine.errors import RecipeError
from engine.flow import polysemy as measuring
from engine.flow.analyse import analyse
from engine.polysemy.sphere import mean_angle
from engine.recipe import load_recipe
from engine.rundir import RunDirectory
from engine.terrarium import family_scene
from engine.terrarium.write import write_shards
from jobs.show import status_lines
from tests.command import connote
from tests.flow import runs
from tests.flow.analyses import (
    CLUSTER,
    ENCODER,
    PARTS,
    POLYSEMY,
    SCENES,
    SEED,
    brute_force,
    embedded,
    end,
    named,
    one,
    placed,
    places,
    results_of,
    unplaced,
    write_recipe,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_shards(folder, SCENES, 160, SEED, families=True)
    # One picture is broken: a run of zeros where its PNG begins.
    tar = folder / "terrarium-000001.tar"
    data = bytearray(tar.read_bytes())
    start = data.index(b"\x89PNG")
    data[start : start + 64] = bytes(64)
    tar.write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def whole(scenes: Path, on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of everything, and what it said."""
    root = tmp_path_factory.mktemp("whole")
    recipe = write_recipe(
        root / "recipe.yaml", scenes, cluster=CLUSTER, sample={"count": 12}, polysemy=POLYSEMY
    )
    status, text = connote("run", recipe, "--out", root / "out")
    assert status == 0, text
    return root / "out", text


def test_families_are_found_again(whole: tuple[Path, str]) -> None:
    out, text = whole
    rows = [
        row for path in out.glob("clusters/*/samples/*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) == SCENES == len({row["key"] for row in rows})
    (broken,) = (row for row in rows if row["error"])
    assert broken["label"] is None and broken["error"] == "not an image"
    good = [row for row in rows if not row["error"]]
    assert sum(row["fitted"] for row in good) == CLUSTER["fit_rows"]
    for fitted in (True, False):
        some = [row for row in good if row["fitted"] is fitted]
        truth = [family_scene(SEED, int(row["key"].split("-")[1]))[0].name for row in some]
        assert adjusted_rand_score(truth, [row["label"] for row in some]) >= 0.8
    result = json.loads(one(out, "clusters/*/result.json").read_text())
    assert (result["images"], result["backend"], result["mode"]) == (SCENES - 1, "cpu", "seeded")
    assert sum(result["excluded"].values()) == 1 and "1 images have no vector" in text
    clusters = pq.read_table(one(out, "clusters/*/clusters.parquet")).to_pylist()
    assert sum(row["size"] for row in clusters) == SCENES - 1
    harbour = next(row for row in clusters if {"sea", "dawn"} <= set(row["terms"]))
    families = [family_scene(SEED, int(key.split("-")[1]))[0].name for key in harbour["keys"]]
    assert families == ["harbour"] * CLUSTER.get("exemplars", 5)


def test_what_it_draws(whole: tuple[Path, str]) -> None:
    out, text = whole
    for pattern in ("clusters/*/map.png", "polysemy/*/curve.png"):
        assert one(out, pattern).read_bytes().startswith(b"\x89PNG")
    page = one(out, "clusters/*/map.html").read_text()
    assert page.count("data:image/jpeg") == CLUSTER["map_points"]
    gallery = one(out, "polysemy/*/clusters.html").read_text()
    assert "geodesic distance" in gallery and "data:image/jpeg" in gallery
    assert "map.html" in text and "clusters.html" in text
    sample = pq.read_table(one(out, "clusters/*/sample-12.parquet")).to_pylist()
    distances = [row["distance"] for row in sample]
    assert distances[0] is None and distances[1:] == sorted(distances[1:], reverse=True)
    assert len({row["id"] for row in sample}) == 12


def test_the_curve_is_that_of_brute_force(whole: tuple[Path, str]) -> None:
    out, _ = whole
    ids, images, captions = embedded(out)
    rows = pq.read_table(one(out, "polysemy/*/curve.parquet")).to_pylist()
    assert [row["radius"] for row in rows] == POLYSEMY["radii"]
    everybody = brute_force(images, captions, images @ images.T, 20, POLYSEMY["radii"])
    # 60 of the 639 images are asked; the mean of all lies within a wide interval around theirs.
    for column, row in enumerate(rows):
        for name in ("image_cosine", "caption_distance", "caption_spread"):
            expected = np.nanmean(getattr(everybody, name)[:, column]) if column else None
            if expected is not None:
                width = row[f"{name}_high"] - row[f"{name}_low"]
                assert row[name] == pytest.approx(expected, abs=2.5 * width)
    assert rows[0]["image_cosine"] is None and rows[0]["caption_spread"] is None
    falling = [row["image_cosine"] for row in rows[1:]]
    assert falling == sorted(falling, reverse=True)
    first = pq.read_table(one(out, "polysemy/*/clusters.parquet")).to_pylist()[0]
    at = [ids.index(name) for name in first["images"]]
    assert first["caption_spread"] == pytest.approx(mean_angle(captions[at]), abs=1e-6)
    # METHODS B5: of what is stored in float16 no length is 1.
    looks, words = (rows[at] / np.linalg.norm(rows[at], axis=1, keepdims=True) for rows in (images, captions))
    expected = np.arccos(np.clip(looks @ words.T, -1, 1)).mean()
    assert first["caption_distance"] == pytest.approx(expected, abs=1e-6)


def test_asked_again_it_computes_nothing(
    whole: tuple[Path, str], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = whole
    for module in ("mine", "analyse"):
        monkeypatch.setattr(f"engine.flow.{module}.cluster", lambda *_, **__: pytest.fail("Ray is started"))
    before = {path: path.stat().st_mtime_ns for path in out.glob("clusters/*/samples/*")}
    recipe = write_recipe(
        tmp_path / "recipe.yaml", scenes, cluster=CLUSTER, sample={"count": 12}, polysemy=POLYSEMY
    )
    status, text = connote("run", recipe, "--out", out)
    assert status == 0, text
    assert not any(word in text for word in ("clustering", "measuring", "placing"))
    command = [sys.executable, "-m", "jobs.polysemy", str(recipe), "--out", str(out)]
    alone = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "curve.png" in alone.stdout and "curve.png" in text
    assert {path: path.stat().st_mtime_ns for path in out.glob("clusters/*/samples/*")} == before
    assert len(list(out.glob("clusters/*"))) == len(list(out.glob("polysemy/*"))) == 1


def test_status_says_what_there_is(whole: tuple[Path, str]) -> None:
    out, _ = whole
    lines = status_lines(RunDirectory.at(str(out)), None, [])
    cells = {line.split()[0]: line.split()[1:] for line in lines if line and "excluded:" not in line}
    name, measured = one(out, "clusters/*/result.json").parent.name, one(out, "polysemy/*/result.json")
    assert cells["cluster"] == [f"{PARTS}/{PARTS}", f"{SCENES - 1}", "1", f"clusters/{name}"]
    assert cells["sample"] == ["-", "-", "-", f"clusters/{name}/sample-12.parquet"]
    assert cells["polysemy"] == ["-", f"{SCENES - 1}", "1", f"polysemy/{measured.parent.name}"]
    assert "  cluster excluded: 1 x not an image" in lines
    assert f"  polysemy excluded: 1 x {ENCODER}: not an image" in lines
    assert "a run with this recipe would compute: nothing, all of it is done" in lines
    assert not any("settings, and kept" in line for line in lines)
    other = "\n".join(status_lines(RunDirectory.at(str(out)), None, ["run.seed=1"]))
    assert (
        "compute: cluster (fit 560 of 640 images, place 64 of 64 parts, sum up, draw the map), sample"
        in other
    )
    assert f"made by other recipes or settings, and kept: clusters/{name}, polysemy/" in other


def test_batches_of_another_size_measure_the_same(
    whole: tuple[Path, str], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries and clusters in batches of a few, each with its own members."""
    out = tmp_path / "out"
    shutil.copytree(whole[0], out, ignore=shutil.ignore_patterns("polysemy"))
    monkeypatch.setattr(measuring, "_ROWS", 100)
    recipe = write_recipe(tmp_path / "recipe.yaml", scenes, cluster=CLUSTER, polysemy=POLYSEMY)
    status, text = connote("polysemy", recipe, "--out", out)
    assert status == 0, text
    for name in ("curve.parquet", "clusters.parquet"):
        assert one(out, f"polysemy/*/{name}").read_bytes() == one(whole[0], f"polysemy/*/{name}").read_bytes()


def test_radii_on_the_map(whole: tuple[Path, str], scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole[0], out, ignore=shutil.ignore_patterns("polysemy"))
    radii = [0, 0.25, 1, 4]
    polysemy = {**POLYSEMY, "radius": "map", "radii": radii, "queries": SCENES}
    recipe = write_recipe(tmp_path / "recipe.yaml", scenes, cluster=CLUSTER, polysemy=polysemy)
    status, text = connote("polysemy", recipe, "--out", out)
    assert status == 0, text
    result = json.loads(one(out, "polysemy/*/result.json").read_text())
    assert (result["queries"], result["cut"], result["radius"]) == (SCENES - 1, 0, "map")
    assert result["measured"] == SCENES - 1 and result["others"] is None and not result["unmeasured"]
    assert "reach beyond" not in text and "queries are measured" not in text
    ids, images, captions = embedded(out)
    tables = [pq.read_table(path) for path in sorted(out.glob("clusters/*/samples/part-*.parquet"))]
    places = {row["id"]: (row["x"], row["y"]) for table in tables for row in table.to_pylist()}
    points = np.array([places[name] for name in ids], np.float64)
    far = np.linalg.norm(points[:, None] - points[None], axis=2)
    everybody = brute_force(images, captions, -far, len(ids) - 1, radii, far)
    rows = pq.read_table(one(out, "polysemy/*/curve.parquet")).to_pylist()
    assert [row["radius"] for row in rows] == radii
    for column, row in enumerate(rows):
        for name in ("image_cosine", "caption_distance", "caption_spread", "caption_variance"):
            values = getattr(everybody, name)[:, column]
            expected = None if np.isnan(values).all() else np.nanmean(values)
            assert row[name] == pytest.approx(expected, abs=1e-6), (name, row["radius"])
    # The radii tell the images apart: some have nobody within the first, all have many within the last.
    assert rows[0]["image_cosine"] is None
    inside = (far <= 0.25).sum(axis=1) - 1
    assert (inside == 0).any() and (inside > 0).any()
    assert "curve.png" in text and one(out, "polysemy/*/curve.png").read_bytes().startswith(b"\x89PNG")


def test_on_an_object_store(whole: tuple[Path, str], scenes: Path, tmp_path: Path, bucket: str) -> None:
    """Clusters, sample and polysemy of a run directory there are those of a local one."""
    run = RunDirectory.at(f"{bucket}/out")
    for path in sorted(whole[0].rglob("*")):
        name = path.relative_to(whole[0]).as_posix()
        if path.is_file() and not name.startswith(("clusters/", "polysemy/")):
            (run.root / name).write_bytes(path.read_bytes())
    sections = {"cluster": CLUSTER, "sample": {"count": 12}, "polysemy": POLYSEMY}
    recipe = write_recipe(tmp_path / "recipe.yaml", scenes, **sections)
    status, text = connote("polysemy", recipe, "--out", run.root.uri)
    assert status == 0, text
    # A fit's tables lie in a folder of a random name, and its note tells the seconds it took.
    local = {named(path.relative_to(whole[0]).as_posix()): path.read_bytes() for path in results_of(whole[0])}
    stored = {}
    for kind in ("clusters", "polysemy"):
        for info in (run.root / kind).entries(recursive=True):
            if info.is_file:
                name = kind + info.path.split(f"/out/{kind}")[1]
                stored[named(name)] = (run.root / name).read_bytes()
    assert stored.keys() == local.keys()
    tables = [name for name in local if name.endswith(".parquet")]
    assert len(tables) == PARTS + 6 and {n: stored[n] for n in tables} == {n: local[n] for n in tables}
    # What is there is found, by status and by another run.
    lines = status_lines(run, None, [])
    assert "a run with this recipe would compute: nothing, all of it is done" in lines
    status, text = connote("run", recipe, "--out", run.root.uri)
    assert status == 0 and not any(word in text for word in ("clustering", "measuring", "placing")), text


def test_a_retry_clusters_anew(whole: tuple[Path, str], scenes: Path, tmp_path: Path) -> None:
    """What a retry makes of the vectors decides the clusters; so does what it fails to make."""
    out = tmp_path / "out"
    shutil.copytree(whole[0], out, ignore=shutil.ignore_patterns("clusters", "polysemy"))
    recipe = load_recipe(write_recipe(tmp_path / "recipe.yaml", scenes, cluster=CLUSTER))
    run = RunDirectory.at(str(out))
    vectors = vector_tables(recipe, run, ENCODER, "images", "cluster.encoder")
    plan = check_complete([vectors], run.read_plan())
    before = Clustering.of(run, recipe, vectors, plan)
    assert before.fingerprint == one(whole[0], "clusters/*/result.json").parent.name
    (note,) = out.glob("stages/embed-images-*/_part*.failed.json")
    note.unlink()  # as after a retry that mended the picture's vector
    assert Clustering.of(run, recipe, vectors, plan).fingerprint != before.fingerprint


def test_no_other_fit_is_put_below_places(whole: tuple[Path, str], scenes: Path, tmp_path: Path) -> None:
    """Its labels would be other clusters."""
    out = tmp_path / "out"
    shutil.copytree(whole[0], out, ignore=shutil.ignore_patterns("polysemy"))
    shutil.rmtree(one(out, "clusters/*/fit"))
    before = places(out)
    recipe = write_recipe(tmp_path / "recipe.yaml", scenes, cluster={**CLUSTER, "terms": 3})
    status, text = connote("cluster", recipe, "--out", out)
    assert status == 3 and "fit: the fit by which images were placed is gone; delete" in text
    assert places(out) == before and not list(out.glob("clusters/*/fit"))


@pytest.mark.slow
def test_the_driver_is_killed_while_it_clusters(
    whole: tuple[Path, str], scenes: Path, tmp_path: Path
) -> None:
    """During the fit, and then while images are placed: no place differs, and none is computed twice."""
    undisturbed, out = placed(whole[0]), unplaced(whole, tmp_path / "out", "clusters")
    recipe = write_recipe(tmp_path / "recipe.yaml", scenes, cluster=CLUSTER)
    process = runs.start(recipe, out)
    process.wait_for(lambda: bool(runs.descendants(process, "ray::_fit_and_save")))
    assert not places(out) and not list(out.glob("clusters/*/fit/fit.json")), "the kill came too late"
    end(process)
    process = runs.start(recipe, out)
    process.wait_for(lambda: len(places(out)) >= 3)
    end(process)
    kept = places(out)
    assert len(kept) < len(undisturbed), "the kill came too late to show anything"
    runs.finish(recipe, out)
    assert placed(out) == undisturbed
    assert {path: ino for path, ino in places(out).items() if path in kept} == kept
    assert one(out, "clusters/*/map.html").exists()


@pytest.mark.slow
def test_a_worker_is_killed_while_it_places(whole: tuple[Path, str], scenes: Path, tmp_path: Path) -> None:
    undisturbed, out = placed(whole[0]), unplaced(whole, tmp_path / "out")
    recipe = write_recipe(tmp_path / "recipe.yaml", scenes, cluster=CLUSTER)
    process = runs.start(recipe, out)
    process.wait_for(lambda: bool(runs.descendants(process, "_PlaceWorker")))
    workers = runs.descendants(process, "_PlaceWorker")
    process.wait_for(lambda: len(places(out)) >= 3)
    kept = places(out)
    for worker in workers:
        worker.kill()
    assert len(kept) < len(undisturbed), "the kill came too late to show anything"
    text = process.end(600)
    assert process.returncode == 0, text
    assert placed(out) == undisturbed
    assert {path: ino for path, ino in places(out).items() if path in kept} == kept
    assert one(out, "clusters/*/map.html").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"cluster": {**CLUSTER, "fit_rows": 9000, "neighbours": 700}},
            "cluster.neighbours is 700, and only 640 images",
        ),
        (
            {"cluster": CLUSTER, "sample": {"count": 1000}},
            "sample.count is 1,000, and the run has 640 images",
        ),
        (
            {"cluster": CLUSTER, "embed": {"encoders": [ENCODER], "dtype": "float32"}},
            f"{PARTS} of {PARTS} parts have no",
        ),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_done(
    whole: tuple[Path, str], scenes: Path, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole[0], out, ignore=shutil.ignore_patterns("polysemy", "clusters"))
    recipe = load_recipe(write_recipe(tmp_path / "recipe.yaml", scenes, **sections))
    with pytest.raises(RecipeError, match=message):
        analyse(recipe, RunDirectory.at(str(out)))
    assert not (out / "clusters").exists(), "nothing half-written"


def test_no_gpu_where_one_is_asked_for(whole: tuple[Path, str], scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole[0], out, ignore=shutil.ignore_patterns("polysemy", "clusters"))
    recipe = write_recipe(tmp_path / "recipe.yaml", scenes, cluster={**CLUSTER, "backend": "cuml"})
    status, text = connote("run", recipe, "--out", out)
    assert status == 2
    assert "cuml needs what the fit does not have: a GPU that the job reserved, an NVIDIA GPU" in text
    assert not list(out.glob("clusters/*/*")), "nothing half-written"
