"""Tables of vectors as jobs read them, with what others may have written into them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from engine.embeddings import Takes, VectorTables, check_complete, numbers_of, vector_tables
from engine.encoders.own_similarity import DotProduct, OwnSimilarity, SmoothChamfer
from engine.errors import RecipeError, StorageError
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.schema import captions_schema, images_schema
from engine.stages import build_stages
from engine.stages.embed import NO_DIRECTION
from engine.storage import StageTables, locate

ENCODER = "open_clip:terrarium"
COLOURS = "python:tests.encoders.own:colours"  # reads no texts
INF, NAN = float("inf"), float("nan")


def image_tables(tmp_path: Path, dtype: str = "float16", width: int = 3) -> VectorTables:
    schema = images_schema(pa.type_for_alias(dtype), width, 1)
    return VectorTables("e", "images", width, schema, StageTables(locate(tmp_path)), "f")


def caption_tables(tmp_path: Path, dtype: str = "float16") -> VectorTables:
    schema = captions_schema(pa.type_for_alias(dtype), 3)
    return VectorTables("e", "original", 3, schema, StageTables(locate(tmp_path)), "f")


def write(
    tables: VectorTables, column: str, values: list[Any], errors: list[str | None] | None = None
) -> None:
    rows = [
        {"id": f"{100 - n:016x}", "key": f"key {n}", column: value, "error": errors[n] if errors else None}
        for n, value in enumerate(values)
    ]
    tables.tables.commit("part-0", pa.Table.from_pylist(rows, schema=tables.schema))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_images(tmp_path: Path, dtype: str) -> None:
    tables = image_tables(tmp_path, dtype)
    vectors = [
        [1, 0, 0],
        None,
        [0, NAN, 1],
        [0, 0, 0],
        [0, INF, 0],
        [0.6, 0, 0.8],
        [-INF, 0, NAN],
        [0, -1, 0],
    ]
    write(tables, "vector", vectors, [None, "broken", None, None, "known", None, None, None])
    found = tables.images("part-0")
    assert found.good.tolist() == [True, False, False, False, False, True, False, True]
    none = [0, 0, 0]
    expected = [[1, 0, 0], none, none, none, none, [0.6, 0, 0.8], none, [0, -1, 0]]
    np.testing.assert_array_equal(found.vectors, np.array(expected, dtype))
    assert found.vectors.dtype == np.dtype(dtype)
    why = NO_DIRECTION
    assert found.errors == [None, "broken", why, why, "known", None, why, None]
    assert found.ids == [f"{100 - n:016x}" for n in range(8)] and found.keys[3] == "key 3"
    assert found.numbers.tolist() == [100 - n for n in range(8)]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_vector_with_a_hole(tmp_path: Path, dtype: str) -> None:
    tables = image_tables(tmp_path, dtype)
    write(tables, "vector", [[1, 0, 0], [0, None, 1]])
    found = tables.images("part-0")
    assert found.good.tolist() == [True, False] and found.errors == [None, NO_DIRECTION]
    assert not found.vectors[1].any() and found.vectors.dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_several_vectors_of_an_image(tmp_path: Path, dtype: str) -> None:
    schema = images_schema(pa.type_for_alias(dtype), 3, 2)
    tables = VectorTables("e", "images", 3, schema, StageTables(locate(tmp_path)), "f", vectors=2)
    a, b = [1, 0, 0], [0, 0.6, 0.8]
    write(tables, "vector", [[a, b], None, [a, [0, 0, 0]], [b, b]], [None, "broken", None, None])
    found = tables.images("part-0")
    assert found.good.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(found.vectors[[0, 3]], np.array([[a, b], [b, b]], dtype))
    assert not found.vectors[1:3].any()


def test_what_is_not_of_unit_length_is_no_direction(tmp_path: Path) -> None:
    """Nor is what overflows when it is squared in half precision."""
    tables = image_tables(tmp_path)
    write(tables, "vector", [[60000, 0, 0], [1e-4, 0, 0], [0.6, 0.8, 0], [1.2, 0, 0]])
    assert tables.images("part-0").good.tolist() == [False, False, True, False]


@pytest.mark.parametrize("vectors", [[], [None, None]])
def test_no_image_with_a_vector(tmp_path: Path, vectors: list[Any]) -> None:
    tables = image_tables(tmp_path)
    write(tables, "vector", vectors, ["broken"] * len(vectors))
    found = tables.images("part-0")
    assert found.vectors.shape == (len(vectors), 3) and not found.good.any()
    assert found.numbers.dtype == np.uint64 and found.errors == ["broken"] * len(vectors)


def test_read_in_pieces(tmp_path: Path) -> None:
    """A table of several row groups, as another tool may have written it."""
    tables = image_tables(tmp_path)
    rows = [{"id": f"{n:016x}", "key": "k", "vector": [0.6, 0, -0.8] if n % 3 else None} for n in range(10)]
    whole = pa.Table.from_pylist(rows, schema=tables.schema)
    tables.tables.table("part-0").write_table(whole, row_group_size=3)
    found = tables.images("part-0")
    assert found.good.tolist() == [bool(n % 3) for n in range(10)]
    np.testing.assert_allclose(found.vectors[:, 2], [-0.8 if n % 3 else 0 for n in range(10)], atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_captions(tmp_path: Path, dtype: str) -> None:
    tables = caption_tables(tmp_path, dtype)
    a, b, c = [1, 0, 0], [0, 1, 0], [0, 0, 1]
    write(tables, "vectors", [[a, None, b], None, [], [None], [[0, 0, 0], [NAN, 1, 0], c], [b]])
    found = tables.captions("part-0")
    assert found.offsets.tolist() == [0, 2, 2, 2, 2, 3, 4] and found.offsets.dtype == np.int64
    assert found.places.tolist() == [0, 2, 2, 0]
    np.testing.assert_array_equal(found.vectors, np.array([a, b, c, b], dtype))
    assert found.vectors.dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("similarity", [SmoothChamfer(16.0), DotProduct()])
def test_several_vectors_of_a_caption(tmp_path: Path, dtype: str, similarity: OwnSimilarity) -> None:
    """Of any length, where they are not compared as directions; a caption has all of them or none."""
    schema, store = captions_schema(pa.type_for_alias(dtype), 3, 2), StageTables(locate(tmp_path))
    tables = VectorTables("e", "original", 3, schema, store, "f", 2, similarity)
    a, b, long, none = [1, 0, 0], [0, 0.6, 0.8], [3, 0, -4], [0, 0, 0]
    lists = [
        [[a, b], None, [b, long]],
        None,
        [],
        [[none, none], [[0, NAN, 1], a], [a, [INF, 0, 0]]],
        [[b, b]],
    ]
    write(tables, "vectors", lists)
    found = tables.captions("part-0")
    assert found.counts.tolist() == [3, 0, 0, 3, 1]
    kept = [[a, b], [b, b]] if similarity.unit else [[a, b], [b, long], [b, b]]
    np.testing.assert_array_equal(found.vectors, np.array(kept, dtype))
    assert found.places.tolist() == ([0, 0] if similarity.unit else [0, 2, 0])
    assert found.offsets.tolist() == ([0, 1, 1, 1, 1, 2] if similarity.unit else [0, 2, 2, 2, 2, 3])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_images_of_any_length(tmp_path: Path, dtype: str) -> None:
    schema, store = images_schema(pa.type_for_alias(dtype), 3, 1), StageTables(locate(tmp_path))
    tables = VectorTables("e", "images", 3, schema, store, "f", similarity=DotProduct())
    write(tables, "vector", [[3, 0, -4], None, [0, 0, 0], [0, INF, 0], [1e-3, 0, 0]])
    found = tables.images("part-0")
    assert found.good.tolist() == [True, False, False, False, True]
    np.testing.assert_array_equal(found.vectors[0], np.array([3, 0, -4], dtype))
    assert not found.vectors[1:4].any() and found.errors[1:4] == [NO_DIRECTION] * 3


@pytest.mark.parametrize("lists", [[], [None], [[], []], [[None], None]])
@pytest.mark.parametrize("vectors", [1, 2])
def test_no_caption_with_a_vector(tmp_path: Path, lists: list[Any], vectors: int) -> None:
    schema = captions_schema(pa.float16(), 3, vectors)
    tables = VectorTables("e", "original", 3, schema, StageTables(locate(tmp_path)), "f", vectors)
    write(tables, "vectors", lists)
    found = tables.captions("part-0")
    assert found.offsets.tolist() == [0] * (len(lists) + 1)
    assert found.vectors.shape == ((0, 3) if vectors == 1 else (0, 2, 3))


def test_captions_in_pieces(tmp_path: Path) -> None:
    tables = caption_tables(tmp_path)
    units = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    lists = [[units[(n + j) % 3] if j else None for j in range(n % 4)] for n in range(11)]
    rows = [{"id": f"{n:016x}", "key": "k", "vectors": each} for n, each in enumerate(lists)]
    whole = pa.Table.from_pylist(rows, schema=tables.schema)
    tables.tables.table("part-0").write_table(whole, row_group_size=4)
    found = tables.captions("part-0")
    for n, each in enumerate(lists):
        some = slice(*found.offsets[n : n + 2])
        assert found.vectors[some].tolist() == [vector for vector in each if vector]


def test_a_table_of_another_width_is_named(tmp_path: Path) -> None:
    write(image_tables(tmp_path / "i", width=4), "vector", [[1, 0, 0, 0]])
    with pytest.raises(StorageError, match=r"/i/part-0\.parquet: holds other columns .* delete it to redo"):
        image_tables(tmp_path / "i", width=3).images("part-0")
    with pytest.raises(StorageError, match=r"/i/part-0\.parquet: holds other columns"):
        image_tables(tmp_path / "i", "float32", 4).images("part-0")
    write(caption_tables(tmp_path / "c", "float32"), "vectors", [[[1, 0, 0]]])
    with pytest.raises(StorageError, match=r"/c/part-0\.parquet: holds other columns"):
        caption_tables(tmp_path / "c").captions("part-0")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    for read in (image_tables(tmp_path).images, caption_tables(tmp_path).captions):
        with pytest.raises(StorageError) as refused:
            read("part-7")
        assert f"{tmp_path}/part-7.parquet: is not there" in str(refused.value)
        assert "`connote run RECIPE` makes them, with 'e' under embed.encoders" in str(refused.value)


def test_ids_as_numbers_keep_their_order() -> None:
    ends = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    some = np.random.default_rng(0).integers(2**64, size=500, dtype=np.uint64)
    numbers = np.concatenate([ends, some])
    ids = [f"{number:016x}" for number in numbers.tolist()]
    found = numbers_of(ids)
    assert found.dtype == np.uint64 and found.dtype.isnative
    np.testing.assert_array_equal(found, numbers)
    assert [ids[i] for i in np.argsort(found, kind="stable")] == sorted(ids)
    assert numbers_of([]).tolist() == []


# Which tables a recipe fills.


def recipe(*encoders: str, texts: tuple[str, ...] = ("original",), **embed: Any) -> Recipe:
    sections = {"embed": {"encoders": encoders, "texts": texts, **embed}} if encoders else {}
    return Recipe.model_validate({"images": {"source": "folder", "uri": "/data"}, **sections})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(locate(tmp_path))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with encoders of other abilities: many vectors an image, or texts only."""
    module = ModuleType("encoders_for_tests")
    module.__file__ = __file__  # a factory's source is a part of its digest
    for name, vectors, images in (("many", 7, True), ("reader", 1, False)):
        made = SimpleNamespace(
            width=3, vectors=vectors, side=0, images=images, texts=True, prepare=None, embed_images=None,
            embed_texts=None,
        )  # fmt: skip

        def factory(device: str, made: Any = made) -> Any:
            return made

        factory.__module__ = module.__name__
        setattr(module, name, factory)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


def test_the_tables_of_an_encoder(run: RunDirectory) -> None:
    made = recipe(ENCODER, COLOURS)
    stages = {stage.name: stage for stage in build_stages(made)}
    images = vector_tables(made, run, ENCODER, "images", "cluster.encoder")
    stage = stages["embed-images-open_clip-terrarium"]
    assert (images.encoder, images.of, images.width) == (ENCODER, "images", 128)
    assert images.fingerprint == stage.fingerprint and images.tables == run.tables(stage)
    assert images.schema.field("vector").type == pa.list_(pa.float16(), 128)
    captions = vector_tables(made, run, ENCODER, "original", "polysemy.text_encoder")
    assert captions.of == "original" and captions.width == 128
    assert captions.fingerprint != images.fingerprint and captions.tables != images.tables
    assert vector_tables(made, run, COLOURS, "images", "cluster.encoder").width == 3
    single = recipe(ENCODER, dtype="float32")
    assert vector_tables(single, run, ENCODER, "images", "").schema.field("vector").type == pa.list_(
        pa.float32(), 128
    )


def refused(made: Recipe, run: RunDirectory, encoder: str, of: Any) -> str:
    with pytest.raises(RecipeError) as error:
        vector_tables(made, run, encoder, of, "polysemy.text_encoder")
    message = str(error.value)
    assert message.startswith(f"polysemy.text_encoder: encoder '{encoder}' ")
    return message


def test_encoders_that_give_no_such_vectors(run: RunDirectory, own: str) -> None:
    message = refused(recipe(ENCODER), run, COLOURS, "images")
    assert "does not embed images" in message and f"(embed.encoders: {ENCODER})" in message
    assert "add it to the section embed" in message
    message = refused(recipe(), run, ENCODER, "images")
    assert "(embed.encoders: none)" in message
    message = refused(recipe(ENCODER), run, ENCODER, "mined")
    assert "does not embed mined captions (embed.texts)" in message
    assert "add it to the section embed" in message


def test_encoders_that_cannot_give_such_vectors(run: RunDirectory, own: str) -> None:
    reader, many = f"python:{own}:reader", f"python:{own}:many"
    made = recipe(reader, many, COLOURS)
    for message, what in (
        (refused(made, run, reader, "images"), "images"),
        (refused(made, run, COLOURS, "original"), "original captions (embed.texts)"),
    ):
        assert f"does not embed {what} in this recipe" in message
        assert "it reads no such thing: name one that does" in message
        assert "add it" not in message, "it is there"
    message = refused(made, run, many, "images")
    assert "gives an image 7 vectors; name one that gives one" in message
    # The nearest of an image's may count; and of a text it gives one.
    assert vector_tables(made, run, many, "images", "", "several").vectors == 7
    assert vector_tables(made, run, many, "original", "").width == 3
    assert vector_tables(made, run, reader, "original", "").width == 3


def test_who_takes_what_is_not_compared_by_cosines(run: RunDirectory) -> None:
    twice = "python:tests.encoders.own:twice"
    made = recipe(twice)
    refused_by = {
        "one": "gives a caption 2 vectors; name one that gives one",
        "several": "compares by dot_product; name one that compares by cosines",
    }
    for takes, said in refused_by.items():
        with pytest.raises(RecipeError, match=f"^difficulty.voters: encoder '{twice}' {said}$"):
            vector_tables(made, run, twice, "original", "difficulty.voters", cast(Takes, takes))
    tables = vector_tables(made, run, twice, "original", "", "any")
    assert (tables.vectors, tables.width, tables.similarity) == (2, 4, DotProduct())


def test_all_parts_must_be_there(tmp_path: Path) -> None:
    images, captions = image_tables(tmp_path / "i"), caption_tables(tmp_path / "c")
    plan = pa.table({"part": ["part-0", "part-1", "part-2"]})
    with pytest.raises(RecipeError, match=r"there are no vectors yet; `connote run RECIPE`"):
        check_complete([images], None)
    with pytest.raises(RecipeError, match=r"there are no vectors yet"):
        check_complete([images], plan.slice(0, 0))
    assert images.missing(plan) == 3
    write(images, "vector", [[1, 0, 0]])
    assert images.missing(plan) == 2
    with pytest.raises(RecipeError) as missing:
        check_complete([images], plan)
    assert "2 of 3 parts have no vectors of 'e' (images) yet" in str(missing.value)
    assert "`connote run RECIPE` makes them, with 'e' under embed.encoders" in str(missing.value)
    some = plan.slice(0, 1)
    assert check_complete([images], some) is some
    with pytest.raises(RecipeError, match=r"1 of 1 parts have no vectors of 'e' \(original\)"):
        check_complete([images, captions], some)


def test_a_table_out_of_the_plan_stands_for_none(tmp_path: Path) -> None:
    images = image_tables(tmp_path)
    write(images, "vector", [[1, 0, 0]])
    assert images.missing(pa.table({"part": ["part-8"]})) == 1
