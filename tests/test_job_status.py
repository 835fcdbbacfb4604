"""What a run directory says about its clusters, its sample and its polysemy, step by step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.analyses import is_made, measurement_of, note_made, page_by, sources_of, tables_of, told_by
from engine.clustering.fitted import Placed
from engine.clustering.tables import Clustering
from engine.embeddings import vector_tables
from engine.errors import RecipeError
from engine.export.mined import open_run
from engine.job_status import JobStatus, job_status, other_results
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.schema import PLAN
from engine.stages import build_stages
from engine.storage import StageTables, locate

ENCODER = "open_clip:terrarium"
PARTS, ROWS = 3, 4
FIT = json.dumps({"backend": "cpu", "mode": "seeded"}).encode()


def recipe(**sections: Any) -> Recipe:
    made = {
        "images": {"source": "folder", "uri": "/data"},
        "embed": {"encoders": [ENCODER], "texts": ["original"]},
        "cluster": {"encoder": ENCODER, "fit_rows": 10, "neighbours": 5, "min_cluster_size": 5},
        "sample": {"count": 2},
        "polysemy": {"image_encoder": ENCODER, "text_encoder": ENCODER, "queries": 5, "radii": [0, 1]},
        **sections,
    }
    made["cluster"] = made["cluster"] and {"min_samples": 2, **made["cluster"]}
    return Recipe.model_validate({name: value for name, value in made.items() if value is not None})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with a plan and no tables."""
    found = RunDirectory(locate(tmp_path / "run"))
    parts = [
        {"part": f"part-{n}", "catalog": "c.parquet", "start": n * ROWS, "rows": ROWS, "bytes": 1}
        for n in range(PARTS)
    ]
    found.write_recipe(recipe())
    found.write_plan(pa.Table.from_pylist(parts, schema=PLAN))
    return found


def embed(run: RunDirectory, made: Recipe, parts: int = PARTS) -> None:
    """The vectors of the first parts: one image of each has none."""
    unit = np.eye(128)[0].tolist()
    for stage in build_stages(made):
        column = "vector" if stage.of == "images" else "vectors"
        good = unit if column == "vector" else [unit]
        for part in range(parts):
            rows = [
                {"id": f"{part * ROWS + n:016x}", "key": f"k{n}", column: good if n else None}
                for n in range(ROWS)
            ]
            table = pa.Table.from_pylist(rows, schema=stage.schema)
            run.tables(stage).commit(f"part-{part}", table)


def clustering(run: RunDirectory, made: Recipe) -> Clustering:
    plan = run.read_plan()
    assert plan is not None
    return Clustering.of(run, made, vector_tables(made, run, ENCODER, "images", ""), plan)


def place_part(run: RunDirectory, made: Recipe, part: int) -> None:
    images = vector_tables(made, run, ENCODER, "images", "").images(f"part-{part}")
    count = int(images.good.sum())
    zeros = np.zeros(count, np.float32)
    placed = Placed(
        np.zeros((count, 2), np.float32),
        np.zeros((count, 5), np.float32),
        zeros.astype(np.int32),
        zeros,
        zeros,
    )
    clustering(run, made).commit(f"part-{part}", images, placed, zeros.astype(bool))


def states(run: RunDirectory, made: Recipe, unread: int = 0) -> dict[str, JobStatus]:
    plan = run.read_plan()
    assert plan is not None
    return {job.name: job for job in job_status(run, made, plan, unread)}


def test_from_nothing_to_all_of_it(run: RunDirectory) -> None:
    made = recipe()
    # Before all images have vectors nobody knows what they are clustered as.
    for parts in (0, 2):
        embed(run, made, parts)
        found = states(run, made)
        assert [job.place for job in found.values()] == [None] * 3 and not any(
            j.there for j in found.values()
        )
        assert (found["cluster"].parts_done, found["cluster"].parts) == (0, PARTS)
        assert found["cluster"].work == "fit and place all images"
        assert found["sample"].work == "choose 2 images"
        steps = "measure 5 queries at 2 radii (original captions), draw the curve, list the clusters"
        assert found["polysemy"].work == steps
    embed(run, made)
    place = clustering(run, made)
    cluster = states(run, made)["cluster"]
    assert cluster.place == f"clusters/{place.fingerprint}" and not cluster.there
    assert cluster.work == "fit 10 of 12 images, place 3 of 3 parts, sum up, draw the map"
    (place.fit / "fit.json").write_bytes(FIT)
    place_part(run, made, 1)
    cluster = states(run, made)["cluster"]
    assert cluster.work == "place 2 of 3 parts, sum up, draw the map" and cluster.parts_done == 1
    assert cluster.images is None and not cluster.excluded
    for part in (0, 2):
        place_part(run, made, part)
    assert states(run, made)["cluster"].work == "sum up, draw the map"
    by = told_by(made, open_run(run, made))
    place.note({"told_by": by, "images": 9, "excluded": {"no direction": 3}})
    cluster = states(run, made)["cluster"]
    assert cluster.work == "draw the map" and cluster.there
    assert (cluster.images, cluster.excluded) == (9, {"no direction": 3})
    (place.directory / "map.html").write_bytes(b"")
    note_made(place.directory / "map.html", by)
    assert states(run, made)["cluster"].work == ""


def test_what_tells_of_the_clusters_changes(run: RunDirectory) -> None:
    made = recipe()
    embed(run, made)
    place = clustering(run, made)
    (place.fit / "fit.json").write_bytes(FIT)
    for part in range(PARTS):
        place_part(run, made, part)
    by = told_by(made, open_run(run, made))
    place.note({"told_by": by, "images": 9, "excluded": {}})
    (place.directory / "map.html").write_bytes(b"")
    note_made(place.directory / "map.html", by)
    assert states(run, made)["cluster"].work == ""
    other = states(run, recipe(cluster={**made.cluster.model_dump(), "terms": 3}))["cluster"]
    assert other.work == "sum up, draw the map" and other.there and other.parts_done == PARTS


def test_a_retry_that_mends_some_of_a_parts_captions_is_told(run: RunDirectory) -> None:
    tables = StageTables(run.root / "stages" / "caption-abc")
    mined: Any = SimpleNamespace(fingerprints={"caption": "abc"}, tables=lambda stage: tables)
    made, told = recipe(), []
    for errors in (["late", "late"], ["late", None]):
        tables.commit("part-0", pa.table({"error": pa.array(errors, pa.string())}), replace=True)
        told.append(told_by(made, mined))
    assert told[0] != told[1]


def test_a_measurement_is_of_one_fit(run: RunDirectory) -> None:
    """In the mode `scale` a fit that is made again has other clusters by the same names."""
    made = recipe()
    embed(run, made)
    place, found = clustering(run, made), set[str]()
    for about in (None, {"mode": "scale", "folder": "tables-1"}, {"mode": "scale", "folder": "tables-2"}):
        if about:
            (place.fit / "fit.json").write_bytes(json.dumps(about).encode())
        plan = run.read_plan()
        assert plan is not None
        found.add(measurement_of(made, run, tables_of(sources_of(made, run)), place, plan).fingerprint)
    assert len(found) == 3


def test_a_sample_counts_if_it_is_of_these_clusters(run: RunDirectory) -> None:
    made = recipe()
    embed(run, made)
    place = clustering(run, made)
    place.sample(2).write_bytes(b"")
    assert states(run, made)["sample"].work == "choose 2 images"
    note_made(place.sample(2), "others")
    assert not states(run, made)["sample"].there
    note_made(place.sample(2), place.fingerprint)
    sample = states(run, made)["sample"]
    assert sample.work == "" and sample.place == f"clusters/{place.fingerprint}/sample-2.parquet"
    assert states(run, recipe(sample={"count": 3}))["sample"].work == "choose 3 images"


@pytest.mark.parametrize("clustered", [True, False])
def test_polysemy_with_and_without_clusters(run: RunDirectory, clustered: bool) -> None:
    made = recipe() if clustered else recipe(cluster=None, sample=None)
    embed(run, made)
    plan = run.read_plan()
    assert plan is not None
    place = clustering(run, made) if clustered else None
    if place:
        assert states(run, made)["polysemy"].place is None, "it is a measurement of one fit"
        (place.fit / "fit.json").write_bytes(FIT)
    measurement = measurement_of(made, run, tables_of(sources_of(made, run)), place, plan)
    found = states(run, made)
    assert list(found) == (["cluster", "sample", "polysemy"] if clustered else ["polysemy"])
    assert found["polysemy"].place == f"polysemy/{measurement.fingerprint}" and not found["polysemy"].there
    counts = {"images": 9, "excluded": {"it: broken": 3}, "captions_excluded": {"original": 2}}
    measurement.finish({"finished": 0.0, **counts})
    polysemy = states(run, made)["polysemy"]
    assert polysemy.work == "draw the curve" + (", list the clusters" if clustered else "")
    assert (polysemy.images, polysemy.excluded) == (9, {"it: broken": 3})
    assert polysemy.captions_excluded == {"original": 2}
    (measurement.directory / "curve.md").write_bytes(b"")
    note_made(measurement.directory / "curve.md", "")
    if clustered:
        assert states(run, made)["polysemy"].work == "list the clusters"
        assert made.polysemy is not None
        measurement.page.write_bytes(b"")
        note_made(measurement.page, page_by(made.polysemy, told_by(made, open_run(run, made))))
        longer = recipe(polysemy={**made.polysemy.model_dump(), "show": 20})
        assert states(run, longer)["polysemy"].work == "list the clusters"
    assert states(run, made)["polysemy"].work == "" and states(run, made)["polysemy"].there


def test_shards_that_are_not_cataloged_make_other_clusters(run: RunDirectory) -> None:
    made = recipe()
    embed(run, made)
    (clustering(run, made).fit / "fit.json").write_bytes(FIT)
    found = states(run, made, unread=1)
    assert all(job.place is None and job.work for job in found.values())
    assert other_results(run, list(found.values())) == [f"clusters/{clustering(run, made).fingerprint}"]
    assert other_results(run, list(states(run, made).values())) == []


def test_a_run_without_such_jobs_or_without_a_plan(run: RunDirectory) -> None:
    assert job_status(run, recipe(cluster=None, sample=None, polysemy=None), PLAN.empty_table()) == []
    found = job_status(run, recipe(), PLAN.empty_table())
    assert [job.work for job in found][:2] == ["fit and place all images", "choose 2 images"]
    assert found[0].parts == found[0].parts_done == 0


def test_an_encoder_that_reads_no_captions_is_refused(run: RunDirectory) -> None:
    colours = "python:tests.encoders.own:colours"
    polysemy = {"image_encoder": ENCODER, "text_encoder": colours}
    other = recipe(embed={"encoders": [ENCODER, colours], "texts": ["original"]}, polysemy=polysemy)
    with pytest.raises(RecipeError, match=r"^polysemy\.text_encoder: .* reads no such thing"):
        states(run, other)


def test_made_from_what(tmp_path: Path) -> None:
    place = locate(tmp_path) / "map.html"
    note_made(place, "a")
    assert not is_made(place, "a")
    place.write_bytes(b"")
    assert is_made(place, "a") and not is_made(place, "b")


def test_it_loads_neither_ray_nor_torch() -> None:
    heavy = "{'ray', 'torch', 'umap', 'scipy', 'sklearn'}"
    code = f"import sys, engine.job_status; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
