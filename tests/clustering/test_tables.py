"""What a clustering leaves in a run directory, and what decides its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.clustering.fitted import Placed
from engine.clustering.tables import Clustering, numbers_in
from engine.embeddings import ImageVectors, VectorTables, numbers_of
from engine.errors import StorageError
from engine.recipe import Cluster, Recipe
from engine.rundir import RunDirectory
from engine.schema import cluster_schema
from engine.stages.embed import NO_DIRECTION
from engine.storage import StageTables, locate

ENCODER = "open_clip:terrarium"
PLAN = pa.table({"part": ["part-0", "part-1"]})


def recipe(seed: int = 0, **cluster: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "images": {"source": "folder", "uri": "/data"},
            "run": {"seed": seed},
            "embed": {"encoders": [ENCODER]},
            "cluster": {"encoder": ENCODER, **cluster},
        }
    )


def vectors(fingerprint: str = "f") -> VectorTables:
    nowhere = StageTables(locate("/nowhere"))
    return VectorTables(ENCODER, "images", 4, pa.schema([]), nowhere, fingerprint)


def clustering(
    tmp_path: Path, made: Recipe | None = None, prints: str = "f", plan: pa.Table = PLAN
) -> Clustering:
    return Clustering.of(RunDirectory(locate(tmp_path)), made or recipe(), vectors(prints), plan)


def images(good: list[bool], reason: str = NO_DIRECTION) -> ImageVectors:
    numbers = [f"{n + 10:016x}" for n in range(len(good))]
    keys = [f"key {n}" for n in range(len(good))]
    errors = [None if fine else reason for fine in good]
    rows = np.zeros((len(good), 4), np.float16)
    return ImageVectors(numbers_of(numbers), numbers, keys, np.array(good, bool), rows, errors)


def placed(count: int, dimensions: int = 3) -> tuple[Placed, Any]:
    rng = np.random.default_rng(0)
    made = Placed(
        rng.normal(size=(count, 2)).astype(np.float32),
        rng.normal(size=(count, dimensions)).astype(np.float32),
        rng.integers(-1, 3, count).astype(np.int32),
        rng.random(count).astype(np.float32),
        rng.random(count).astype(np.float32),
    )
    return made, rng.random(count) < 0.5


def test_bad_images_are_error_rows(tmp_path: Path) -> None:
    place, some = clustering(tmp_path, recipe(dimensions=3)), images([True, False, True, True, False])
    made, fitted = placed(3)
    place.commit("part-0", some, made, fitted)
    table = place.read("part-0")
    assert table.schema.equals(cluster_schema(3))
    assert table["id"].to_pylist() == some.ids and table["key"].to_pylist() == some.keys
    assert table["error"].to_pylist() == [None, NO_DIRECTION, None, None, NO_DIRECTION]
    for name in ("x", "y", "space", "label", "strength", "outlier", "fitted"):
        assert table[name].is_null().to_pylist() == [False, True, False, False, True], name
    kept = table.filter(pa.array(some.good))
    np.testing.assert_array_equal(kept["x"].to_numpy(), made.plane[:, 0])
    np.testing.assert_array_equal(kept["y"].to_numpy(), made.plane[:, 1])
    np.testing.assert_array_equal(np.array(kept["space"].to_pylist(), np.float32), made.space)
    for name in ("label", "strength", "outlier"):
        np.testing.assert_array_equal(kept[name].to_numpy(), getattr(made, name))
    assert kept["fitted"].to_pylist() == fitted.tolist()
    assert place.tables.failures("part-0") == {NO_DIRECTION: 2}
    np.testing.assert_array_equal(numbers_in(table), some.numbers)


@pytest.mark.parametrize("count", [0, 4])
def test_no_good_image(tmp_path: Path, count: int) -> None:
    place = clustering(tmp_path, recipe(dimensions=3))
    place.commit("part-0", images([False] * count, "broken"), *placed(0))
    table = place.read("part-0")
    assert table.schema.equals(cluster_schema(3)) and len(table) == count
    assert table["error"].to_pylist() == ["broken"] * count
    assert table["space"].null_count == table["label"].null_count == table["fitted"].null_count == count


def test_of_two_writers_the_first_stands(tmp_path: Path) -> None:
    place, some = clustering(tmp_path, recipe(dimensions=3)), images([True])
    made, fitted = placed(1)
    first = place.commit("part-0", some, made, fitted)
    other = Placed(made.plane + 1, made.space, made.label, made.strength, made.outlier)
    assert place.commit("part-0", some, other, fitted).equals(first)
    assert place.read("part-0").equals(first)


def test_some_columns_are_read(tmp_path: Path) -> None:
    place = clustering(tmp_path, recipe(dimensions=3))
    place.commit("part-0", images([True, False]), *placed(1))
    assert place.read("part-0", ("id", "label")).column_names == ["id", "label"]


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    place = clustering(tmp_path)
    with pytest.raises(StorageError) as refused:
        place.read("part-9")
    assert place.tables.table("part-9").uri in str(refused.value)
    assert "run the same command again to cluster to the end" in str(refused.value)


def test_a_table_of_other_columns_is_named(tmp_path: Path) -> None:
    clustering(tmp_path, recipe(dimensions=3)).commit("part-0", images([True]), *placed(1))
    place = clustering(tmp_path, recipe(dimensions=3))
    for other, columns in ((4, None), (4, ("id", "space"))):
        wrong = Clustering(place.directory, place.fingerprint, other)
        with pytest.raises(StorageError, match=r"part-0\.parquet: holds other columns"):
            wrong.read("part-0", columns)


def test_a_directory_of_its_own(tmp_path: Path) -> None:
    place = clustering(tmp_path)
    assert place.directory.uri == f"{tmp_path}/clusters/{place.fingerprint}"
    assert place.fit.uri == f"{place.directory.uri}/fit"
    place.note({"clusters": 3, "names": "Käse"})
    assert "Käse" in (place.directory / "result.json").read_text()


@pytest.mark.parametrize(
    "changed",
    [
        {"actors": 3}, {"cpus": 1}, {"gpus": 1}, {"captions": "original"}, {"terms": 3}, {"exemplars": 1},
        {"map_points": 10},
    ],
)  # fmt: skip
def test_what_decides_no_place(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert clustering(tmp_path, recipe(**changed)) == clustering(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"encoder": "python:tests.encoders.own:colours"}, {"backend": "cpu"}, {"mode": "scale"},
        {"fit_rows": 100}, {"neighbours": 10}, {"dimensions": 6}, {"min_dist": 0.2},
        {"min_cluster_size": 40}, {"min_samples": 9}, {"epsilon": 0.1}, {"select": "leaf"}, {"seed": 1},
    ],
)  # fmt: skip
def test_what_decides_places(tmp_path: Path, changed: dict[str, Any]) -> None:
    if "encoder" in changed:
        other = Recipe.model_validate(
            recipe().model_dump() | {"embed": {"encoders": [changed["encoder"]]}, "cluster": changed}
        )
    else:
        other = recipe(**changed)
    assert clustering(tmp_path, other).fingerprint != clustering(tmp_path).fingerprint


def test_every_setting_was_thought_of() -> None:
    """A setting that is new must be put into one of the lists above."""
    tests: tuple[Any, ...] = (test_what_decides_no_place, test_what_decides_places)
    named = {key for test in tests for changed in test.pytestmark[0].args[1] for key in changed}
    assert named - {"seed"} == set(Cluster.model_fields)


def test_vectors_and_images_decide_places(tmp_path: Path) -> None:
    base = clustering(tmp_path)
    assert clustering(tmp_path, prints="g").fingerprint != base.fingerprint
    for parts in (["part-0"], ["part-0", "part-1", "part-2"], ["part-0", "part-2"], ["part-0part-1"]):
        assert clustering(tmp_path, plan=pa.table({"part": parts})).fingerprint != base.fingerprint
