"""Clustering, sampling and polysemy over a run's vectors: as users run them, killed, and refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import adjusted_rand_score

from engine.clustering.tables import Clustering
from engine.embeddings import check_complete, vector_tables
from engine.errors import RecipeError
from engine.flow.analyse import analyse
from engine.polysemy.radius import Captions, radius_curve
from engine.polysemy.sphere import mean_angle
from engine.recipe import load_recipe
from engine.rundir import RunDirectory
from engine.terrarium import family_scene
from engine.terrarium.write import write_shards
from tests.flow import runs

pytestmark = [pytest.mark.ray]

ENCODER = "open_clip:terrarium"
SCENES, PART_ROWS, SEED = 640, 5, 11
CLUSTER: dict[str, Any] = {
    "encoder": ENCODER,
    "fit_rows": 560,
    "neighbours": 10,
    "min_cluster_size": 15,
    "min_samples": 5,
    "map_points": 40,
    "cpus": 0.5,
}
POLYSEMY: dict[str, Any] = {
    "image_encoder": ENCODER,
    "text_encoder": ENCODER,
    "queries": 60,
    "radii": [0, 1, 5, 20],
    "cpus": 0.5,
}


def write_recipe(path: Path, images: Path, **sections: object) -> Path:
    """A recipe that embeds scenes of families; sections come on top of it."""
    recipe = {
        "images": {"source": "webdataset", "uri": str(images)},
        "run": {"part_rows": PART_ROWS},
        "embed": {"encoders": [ENCODER], "texts": ["original"], "cpus": 1},
        **sections,
    }
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    return path


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
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of everything, and what it said."""
    root = tmp_path_factory.mktemp("whole")
    recipe = write_recipe(
        root / "recipe.yaml", scenes, cluster=CLUSTER, sample={"count": 12}, polysemy=POLYSEMY
    )
    return root / "out", runs.finish(recipe, root / "out")


def placed(out: Path) -> dict[str, bytes]:
    """The tables of the placed samples."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("clusters/*/samples/part-*.parquet"))}


def one(out: Path, pattern: str) -> Path:
    """The only file of that kind."""
    (found,) = out.glob(pattern)
    return found


def embedded(out: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids, image vectors and caption vectors of the run's good images, in order of their ids."""
    tables = [pq.read_table(path) for path in sorted(out.glob("stages/embed-images-*/part-*.parquet"))]
    images = {row["id"]: row["vector"] for table in tables for row in table.to_pylist() if row["vector"]}
    tables = [pq.read_table(path) for path in sorted(out.glob("stages/embed-original-*/part-*.parquet"))]
    captions = {row["id"]: row["vectors"][0] for table in tables for row in table.to_pylist()}
    ids = sorted(images)
    return (
        ids,
        np.array([images[i] for i in ids], np.float64),
        np.array([captions[i] for i in ids], np.float64),
    )


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
    cosines = images @ images.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :20]
    everybody = radius_curve(
        np.arange(len(ids)),
        order,
        np.take_along_axis(cosines, order, 1),
        images,
        Captions(captions, np.arange(len(ids) + 1)),
        POLYSEMY["radii"],
    )
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
    expected = np.arccos(np.clip(images[at] @ captions[at].T, -1, 1)).mean()
    assert first["caption_distance"] == pytest.approx(expected, abs=1e-6)


def test_asked_again_it_computes_nothing(whole: tuple[Path, str], scenes: Path, tmp_path: Path) -> None:
    out, _ = whole
    before = {path: path.stat().st_mtime_ns for path in out.glob("clusters/*/samples/*")}
    recipe = write_recipe(
        tmp_path / "recipe.yaml", scenes, cluster=CLUSTER, sample={"count": 12}, polysemy=POLYSEMY
    )
    text = runs.finish(recipe, out)
    assert not any(word in text for word in ("clustering", "measuring", "placing"))
    command = [sys.executable, "-m", "jobs.polysemy", str(recipe), "--out", str(out)]
    alone = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "curve.png" in alone.stdout and "curve.png" in text
    assert {path: path.stat().st_mtime_ns for path in out.glob("clusters/*/samples/*")} == before
    assert len(list(out.glob("clusters/*"))) == len(list(out.glob("polysemy/*"))) == 1


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


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["driver", "worker", "fit"])
def test_killed_while_it_clusters(whole: tuple[Path, str], scenes: Path, tmp_path: Path, victim: str) -> None:
    """Whoever dies, the places are those of an undisturbed run, and none is computed twice."""
    undisturbed, out = placed(whole[0]), tmp_path / "out"
    # The fit is kept where it is not what is killed: it takes half a minute, most of it compiling.
    gone = ("clusters",) if victim == "fit" else ("samples", "result.json", "map.html")
    shutil.copytree(whole[0], out, ignore=shutil.ignore_patterns(*gone, "polysemy"))
    recipe = write_recipe(tmp_path / "recipe.yaml", scenes, cluster=CLUSTER)
    process = runs.start(recipe, out)
    if victim == "fit":
        runs.wait_for(lambda: bool(runs.descendants(process, "ray::_fit_and_save")))
    else:
        runs.wait_for(lambda: len(placed(out)) >= 3)
    kept = {path: path.stat().st_ino for path in out.glob("clusters/*/samples/part-*")}
    assert len(kept) < len(undisturbed), "the kill came too late to show anything"
    if victim == "worker":
        for worker in runs.descendants(process, "_PlaceWorker"):
            worker.kill()
        text, _ = process.communicate(timeout=240)
        assert process.returncode == 0, text
    else:
        process.send_signal(signal.SIGKILL)
        process.wait()
        runs.finish(recipe, out)
    assert placed(out) == undisturbed
    assert {path: path.stat().st_ino for path in kept} == kept
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
            "128 of 128 parts have no",
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
    text = runs.finish(recipe, out, status=2)
    assert "cluster.backend: cuml needs an NVIDIA GPU and the package cuML" in text
    assert not list(out.glob("clusters/*/*")), "nothing half-written"
