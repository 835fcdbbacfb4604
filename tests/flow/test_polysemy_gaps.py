"""Polysemy of a few images, some of them without a vector: what is measured, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from engine.errors import RecipeError
from engine.flow import polysemy as measuring
from engine.flow.analyse import analyse
from engine.flow.members import Members
from engine.flow.neighbourhood import Neighbourhood
from engine.flow.neighbours import NOBODY
from engine.polysemy.radius import Captions, radius_curve
from engine.polysemy.sphere import directions
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.schema import PLAN
from engine.stages import build_stages
from engine.storage import locate
from jobs.show import status_lines
from tests.flow.analyses import ENCODER, one

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

LOOKER = "python:tests.encoders.own:colours"
COUNT, PARTS = 12, 3
#: The images without a vector of the looker's: nobody's neighbours.
BLIND = (11,)
#: Those without one of the reader's, and those whose caption has none.
UNREAD, SILENT = (0, 3, 7), (2, 5)
RADII = (0, 1, 10, 25, 100)


def embedded(
    root: Path, unread: tuple[int, ...], silent: tuple[int, ...]
) -> tuple[RunDirectory, Recipe, Any]:
    """A run whose vectors are there: looks (n, 3), images and captions (n, 128); zero where there is none."""
    made = Recipe.model_validate(
        {
            "images": {"source": "folder", "uri": "/data"},
            "embed": {"encoders": [LOOKER, ENCODER], "texts": ["original"], "dtype": "float32"},
            "polysemy": {
                "image_encoder": LOOKER,
                "text_encoder": ENCODER,
                "queries": COUNT,
                "radii": RADII,
                "cpus": 0.5,
            },
        }
    )
    run, rng = RunDirectory(locate(root / "run")), np.random.default_rng(2)
    vectors = [
        directions(rng.normal(size=(COUNT, width)) + 0.3)[0].astype(np.float32) for width in (3, 128, 128)
    ]
    for rows, gone in zip(vectors, (BLIND, unread, silent), strict=True):
        rows[list(gone)] = 0
    size = COUNT // PARTS
    plan = [
        {"part": f"part-{n}", "catalog": "c.parquet", "start": n * size, "rows": size, "bytes": 1}
        for n in range(PARTS)
    ]
    run.write_recipe(made)
    run.write_plan(pa.Table.from_pylist(plan, schema=PLAN))
    for stage in build_stages(made):
        column = "vectors" if stage.of != "images" else "vector"
        kind = 2 if stage.of != "images" else int(stage.encoder.text != LOOKER)
        for part in range(PARTS):
            table = []
            for at in range(part * size, (part + 1) * size):
                vector = vectors[kind][at] if vectors[kind][at].any() else None
                table.append({"id": f"{at:016x}", "key": f"k{at}", column: [vector] if kind == 2 else vector})
            run.tables(stage).commit(f"part-{part}", pa.Table.from_pylist(table, schema=stage.schema))
    return run, made, [rows.astype(np.float64) for rows in vectors]


def test_what_has_no_vector_is_counted_and_the_rest_is_measured(tmp_path: Path) -> None:
    run, made, (looks, seen, words) = embedded(tmp_path, UNREAD, SILENT)
    said: list[str] = []
    analyse(made, run, say=said.append)
    result = json.loads(one(tmp_path / "run", "polysemy/*/result.json").read_text())
    assert (result["queries"], result["measured"], result["others"]) == (11, 8, 10)
    assert result["unmeasured"] == {f"no vector of '{ENCODER}'": 3}
    assert result["images"] == 8 and sum(result["excluded"].values()) == 4
    assert result["captions_excluded"] == {"original": 2}
    text = "\n".join(said)
    assert f"8 of 11 queries are measured: 3 x no vector of '{ENCODER}'" in text
    assert "4 images lack a vector" in text and "2 original captions are empty" in text
    beyond = "radii 25 and 100 reach beyond the run's 10 other images: they hold all of them"
    assert beyond in text and beyond in one(tmp_path / "run", "polysemy/*/curve.md").read_text()

    # All but the blind are neighbours; those that cannot be read are, too, with their captions.
    there = np.setdiff1d(np.arange(COUNT), BLIND)
    queries = np.setdiff1d(there, UNREAD)
    cosines = looks @ looks.T
    near = np.array([sorted(there[there != query], key=lambda n: -cosines[query, n]) for query in queries])
    offsets = np.concatenate([[0], np.cumsum(words.any(axis=1))])
    captions = Captions(words[words.any(axis=1)], offsets)
    alike = np.take_along_axis(cosines[queries], near, axis=1)
    expected = radius_curve(queries, near, alike, seen[queries], captions, (0, 1, 10))
    rows = pq.read_table(one(tmp_path / "run", "polysemy/*/curve.parquet")).to_pylist()
    for name in ("image_cosine", "caption_distance", "caption_spread", "caption_variance"):
        values = getattr(expected, name)
        means = [None if np.isnan(column).all() else np.nanmean(column) for column in values.T]
        assert [row[name] for row in rows[:3]] == pytest.approx(means, abs=1e-6), name
        assert [row[name] for row in rows[3:]] == pytest.approx([rows[2][name]] * 2), "nobody is left"


def test_status_lists_them(tmp_path: Path) -> None:
    run, made, _ = embedded(tmp_path, UNREAD, SILENT)
    analyse(made, run, say=lambda _: None)
    lines = [line for line in status_lines(run, None, []) if "polysemy" in line]
    assert lines[0].split()[:4] == ["polysemy", "-", "8", "4"]
    assert any(line.startswith(f"  polysemy excluded: 3 x {ENCODER}: ") for line in lines)
    assert "  polysemy captions excluded: 2 x original: empty, or no direction" in lines


@pytest.mark.parametrize(
    ("unread", "silent", "message"),
    [
        (tuple(range(COUNT)), (), r"^polysemy: 0 of 11 queries .*: .*11 x no vector of"),
        (tuple(range(1, COUNT)), (), r"^polysemy: 1 of 11 queries .*: .*10 x no vector of"),
        ((), tuple(range(COUNT)), r"^polysemy\.texts: 0 of 11 queries have original captions .*; 12 of the"),
    ],
)
def test_too_few_are_refused_before_anything_is_written(
    tmp_path: Path, unread: tuple[int, ...], silent: tuple[int, ...], message: str
) -> None:
    run, made, _ = embedded(tmp_path, unread, silent)
    with pytest.raises(RecipeError, match=message):
        analyse(made, run, say=lambda _: None)
    assert not (tmp_path / "run" / "polysemy").exists()


def members() -> Members:
    """Images 0 to 3 with a caption each: image 2 has no looks, image 3 is not in the captions' space."""
    angles = np.array([0.0, 0.1, 0.2, 0.3])
    looks = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    seen, words = looks.copy(), looks.copy()
    looks[2] = seen[3] = 0
    return Members(np.arange(4, dtype=np.uint64), looks, seen, Captions(words, np.arange(5)))


def test_on_the_map_each_measure_is_of_the_images_that_have_it() -> None:
    near = np.array([[2, 1, NOBODY], [1, 0, NOBODY]], np.uint64)
    far = np.array([[1.0, 2.0, np.inf]] * 2)
    some = Neighbourhood(np.array([0, 3], np.uint64), near, None, far)
    found = measuring._measure_queries((some, [ray.put(members())]), (0.5, 1, 2))
    # Query 3 is left out. Of query 0's neighbours, 2 gives its caption alone.
    np.testing.assert_allclose(found.image_cosine, [[np.nan, np.nan, np.cos(0.1)]])
    np.testing.assert_allclose(found.caption_distance, [[0, 0.1, 0.1]], atol=1e-7)


def test_a_cluster_is_measured_by_images_with_both_vectors() -> None:
    groups = {5: np.array([0, 1, 2, 3], np.uint64), 6: np.array([2, 3], np.uint64)}
    first, second = measuring._measure_clusters((groups, [ray.put(members())]))
    assert first["images"] == [f"{0:016x}", f"{1:016x}"] and second["images"] == []
    assert first["image_cosine"] == pytest.approx(np.cos(0.1))
    assert first["caption_distance"] == pytest.approx(0.05)
    assert np.isnan(second["image_cosine"]) and np.isnan(second["caption_distance"])
