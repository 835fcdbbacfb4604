"""Runs whose vectors are clustered and measured: their recipe, and what is read off them."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from engine.polysemy.radius import Captions, Curve, radius_curve

ENCODER = "open_clip:terrarium"
SCENES, PART_ROWS, SEED = 640, 10, 11
PARTS = SCENES // PART_ROWS
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


def brute_force(
    images: np.ndarray,
    captions: np.ndarray,
    near: np.ndarray,
    count: int,
    radii: list[float],
    far: Any = None,
) -> Curve:
    """The curve of all images, each with one caption: those with the largest `near` (n, n) around each."""
    np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1, kind="stable")[:, :count]
    cosines = np.take_along_axis(images @ images.T, order, 1)
    words = Captions(captions, np.arange(len(images) + 1))
    distances = None if far is None else np.take_along_axis(far, order, 1)
    return radius_curve(np.arange(len(images)), order, cosines, images, words, radii, distances)


def results_of(out: Path) -> list[Path]:
    return [path for kind in ("clusters", "polysemy") for path in (out / kind).rglob("*") if path.is_file()]


def named(path: str) -> str:
    """Without the random part of a name."""
    return re.sub(r"tables-\w{8}/", "tables/", path)


def unplaced(whole: tuple[Path, str], out: Path, *gone: str) -> Path:
    """A copy of the run in which nothing is placed; the fit is there unless it is named."""
    names = ("samples", "result.json", "map.html", "polysemy", *gone)
    shutil.copytree(whole[0], out, ignore=shutil.ignore_patterns(*names))
    return out


def places(out: Path) -> dict[Path, int]:
    """What changes when a table is written again."""
    return {path: path.stat().st_ino for path in out.glob("clusters/*/samples/part-*")}


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
