"""Run directories built by hand: images, catalog, plan and stage tables, without Ray or a model."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from engine.catalog import CatalogTables, discover, plan_parts
from engine.recipe import Recipe, parse_recipe
from engine.rundir import RunDirectory
from engine.schema import CATALOG, LEVELS, PLAN
from engine.stages import build_stages
from engine.storage import digest_of

WORDS = {
    "synonym": "hound",
    "broader": "animal",
    "context": "walk",
    "concept": "loyalty",
    "metaphor": "anchor",
}


@dataclass
class Made:
    """A sample to be built: its image, and the errors and flags that it is to have."""

    key: str
    image: bytes = b""
    captions: list[str] = field(default_factory=lambda: ["A dog walks."])
    extra: str | None = None
    catalog_error: str | None = None
    describe_error: str | None = None
    caption_error: str | None = None
    texts: dict[str, str] = field(default_factory=dict)  # caption by level, where it is to differ
    flags: dict[str, str] = field(default_factory=dict)  # by level


def picture(number: int, form: str = "JPEG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (24, 16), ((number * 37) % 256, (number * 91) % 256, 128)).save(sink, form)
    return sink.getvalue()


def many(count: int) -> list[Made]:
    return [Made(f"{i:012d}", picture(i)) for i in range(count)]


def recipe_of(images: Path, source: str = "folder", more: str = "") -> Recipe:
    text = f"""
images: {{source: {source}, uri: {images}}}
run: {{seed: 3, part_rows: 2}}
generators: {{words: {{backend: scripted}}}}
describe: {{generator: words}}
associate: {{generator: words}}
caption: {{generator: words}}
{more}"""
    return parse_recipe(text)


def make_run(
    root: Path, made: list[Made], source: str = "folder", part_rows: int = 2, done: int | None = None
) -> RunDirectory:
    """A run over image files of one shard; only its first `done` parts have stage tables."""
    images = root / "images"
    images.mkdir(parents=True)
    recipe = recipe_of(images, source)
    run = RunDirectory.at(str(root / "run"))
    run.write_recipe(recipe)
    catalog = pa.Table.from_pylist([_row(images, i, one) for i, one in enumerate(made)], schema=CATALOG)
    (run.catalog / "shard-0.parquet").write_table(catalog)
    ids = catalog["id"].to_pylist()
    parts = [
        {"part": f"part-{start:06d}", "start": start, "rows": len(ids[start : start + part_rows])}
        for start in range(0, len(made), part_rows)
    ]
    plan = [{**part, "catalog": "shard-0.parquet", "bytes": 1} for part in parts]
    run.write_plan(pa.Table.from_pylist(plan, schema=PLAN))
    for part in parts[:done]:
        rows = slice(part["start"], part["start"] + part["rows"])
        _commit(run, recipe, part["part"], catalog[rows], made[rows])
    return run


def mine_by_hand(run: RunDirectory, recipe: Recipe) -> None:
    """Catalog a real source and commit what the stages would have made of it."""
    run.write_recipe(recipe)
    tables = CatalogTables(run.catalog)
    shards = [tables.update(shard, recipe.images).shard for shard in discover(recipe.images)]
    plan = plan_parts(run.catalog, shards, recipe.run.part_rows, recipe.run.part_bytes)
    run.write_plan(plan)
    for part in plan.to_pylist():
        catalog = (run.catalog / part["catalog"]).read_table().slice(part["start"], part["rows"])
        _commit(run, recipe, part["part"], catalog, [Made(key) for key in catalog["key"].to_pylist()])


def read_part(catalog: Any, start: int, rows: int) -> pa.Table:
    """In place of engine.catalog.read_part, which needs a catalog made by a scan."""
    table = catalog.read_table().slice(start, rows)
    data = [
        None if row["offset"] is None else Path(row["uri"]).read_bytes()[row["offset"] :][: row["size"]]
        for row in table.to_pylist()
    ]
    return table.append_column("image", pa.array(data, pa.large_binary()))


def _commit(run: RunDirectory, recipe: Recipe, part: str, catalog: pa.Table, made: list[Made]) -> None:
    columns = {"describe": _describe, "associate": _associate, "caption": _caption}
    for stage in build_stages(recipe):
        rows = [
            {"id": id, "key": one.key, **columns[stage.name](one)}
            for id, one in zip(catalog["id"].to_pylist(), made, strict=True)
        ]
        run.tables(stage).commit(part, pa.Table.from_pylist(rows, schema=stage.schema))


def _row(images: Path, index: int, made: Made) -> dict[str, Any]:
    path = images / f"file-{index}.bin"
    path.write_bytes(made.image)
    return {
        "id": digest_of("image", str(index)),
        "key": made.key,
        "uri": str(path),
        "offset": 0 if made.image else None,
        "size": len(made.image),
        "captions": made.captions,
        "extra": made.extra,
        "error": made.catalog_error,
    }


def _describe(made: Made) -> dict[str, Any]:
    error = made.catalog_error or made.describe_error
    return {"description": None if error else f"A dog beside {made.key}.", "error": error}


def _associate(made: Made) -> dict[str, Any]:
    if made.catalog_error or made.describe_error:
        return {"error": "skipped: describe failed"}
    element = {"element": "dog", "pos": "noun", **{level: [word] for level, word in WORDS.items()}}
    return {"elements": [{**element, "flag": None}], "error": None}


def _caption(made: Made) -> dict[str, Any]:
    if made.catalog_error or made.describe_error:
        return {"error": "skipped: associate failed"}
    if made.caption_error:
        return {"error": made.caption_error}
    items = [
        {
            "element": "dog",
            "level": level,
            "association": WORDS[level],
            "caption": made.texts.get(level, f"A {WORDS[level]} near {made.key}"),
            "attempts": 1,
            "flag": made.flags.get(level),
        }
        for level in LEVELS
    ]
    return {"creative_captions": items, "error": None}
