"""A run of millions of samples for `benchmarks.planning`: true in all that planning reads, and nothing else.

The tars are one file under many names: a tar of up to 10,000 samples as a web data set has them, each with a
caption, a JSON and an image of some 100 KB, of which all but the first bytes are a hole in the file. The
engine catalogs it; every other catalog table is that one with ids, keys and URIs of its own. Every second
part is committed in all stages, by an empty file of the right name, since nobody opens the table of a part
that is done, and every tenth of those has a note of failures.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from benchmarks.inputs import scripted_recipe
from engine.catalog import CatalogTables, Catalogued, discover, plan_parts
from engine.catalog.tables import file_name
from engine.rundir import RunDirectory
from engine.stages import build_stages
from engine.storage import Location, digest_of

SHARD_ROWS = 10_000
#: Every so manieth committed part has error rows: one sample of some 2,500 fails.
FAILED_EVERY = 10
NOTE = json.dumps({"no valid answer after 3 attempts": 1}).encode()
WORDS = (
    "a man riding two wave on top of surfboard with dogs sitting near red train blue kitchen table and "
    "photo the vintage poster for sale design stock image view from street in city at night wedding"
).split()


def make(root: Path, samples: int, shard_rows: int = SHARD_ROWS) -> dict[str, Any]:
    """Make ROOT/tars and ROOT/run; returns the seconds that each took, and the run's shards and parts."""
    shards, moments = samples // shard_rows, [time.perf_counter()]
    (root / "tars").mkdir(parents=True)
    write_tar(root / "tars" / "00000.tar", shard_rows)
    for index in range(1, shards):
        os.link(root / "tars" / "00000.tar", root / "tars" / f"{index:05d}.tar")
    moments.append(time.perf_counter())
    recipe, run = scripted_recipe(root / "tars", root / "run", actors=1), RunDirectory.at(str(root / "run"))
    tables = CatalogTables(run.catalog)
    found = discover(recipe.images, run.root)
    first = tables.scan(found[0], recipe.images).shard
    moments.append(time.perf_counter())
    others = [(index, shard.name, shard.uri) for index, shard in enumerate(found)][1:]
    with ProcessPoolExecutor(2) as processes:
        headers = [first, *processes.map(partial(_catalog, tables, first), others, chunksize=16)]
    moments.append(time.perf_counter())
    plan = plan_parts(run.catalog, headers, recipe.run.part_rows, recipe.run.part_bytes)
    run.write_recipe(recipe)
    run.write_plan(plan)
    for stage in build_stages(recipe):
        _commit(run.tables(stage).directory, plan["part"][::2].to_pylist())
    moments.append(time.perf_counter())
    took = dict(zip(("tars", "scan", "catalog", "stages"), np.diff(moments).tolist(), strict=True))
    return {"shards": shards, "parts": len(plan), "rows": samples, "seconds": took}


def write_tar(path: Path, rows: int) -> None:
    """A WebDataset tar whose images are as large as photographs, and mostly holes."""
    draw, picture = random.Random(7), _png()
    with open(path, "wb") as file:
        for index in range(rows):
            key, size = f"{index:09d}", max(20_000, min(250_000, round(draw.gauss(100_000, 40_000))))
            about = {"url": f"https://example.org/{draw.getrandbits(64):x}.jpg", "width": 640, "height": 480}
            caption = " ".join(draw.choices(WORDS, k=draw.randint(6, 16)))
            for ending, data in (("txt", caption.encode()), ("json", json.dumps(about).encode())):
                _add(file, f"{key}.{ending}", data, len(data))
            _add(file, f"{key}.jpg", picture, size)
        file.truncate(file.tell() + 2 * tarfile.BLOCKSIZE)


def _png() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 64), (30, 60, 90)).save(sink, "PNG")
    return sink.getvalue()


def _add(file: io.BufferedWriter, name: str, data: bytes, size: int) -> None:
    """A member of `size` bytes that begins with the data."""
    member = tarfile.TarInfo(name)
    member.size = size
    file.write(member.tobuf())
    end = file.tell() + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    file.write(data)
    file.seek(end)


def _catalog(tables: CatalogTables, first: Catalogued, shard: tuple[int, str, str]) -> Catalogued:
    """Put the first shard's table in the place of another's, with ids, keys and URIs of its own."""
    index, name, uri = shard
    table = (tables.directory / first.file).read_table()
    rows = len(table)
    ids = np.random.default_rng(index).bytes(8 * rows).hex()
    keys = pc.utf8_lpad(pa.array(np.arange(index * rows, (index + 1) * rows)).cast(pa.string()), 9, "0")
    columns = {
        "id": pa.array([ids[at : at + 16] for at in range(0, len(ids), 16)]),
        "key": keys,
        "uri": pa.array([uri] * rows),
    }
    for column, values in columns.items():
        at = table.schema.get_field_index(column)
        table = table.set_column(at, table.schema.field(at), values)
    header = replace(first, file=file_name(name), name=name, uri=uri, digest=digest_of(name))
    tables.put(header, table)
    return header


def _commit(stage: Location, parts: list[str]) -> None:
    directory = Path(stage.uri)
    directory.mkdir(parents=True)
    for index, part in enumerate(parts):
        if index % FAILED_EVERY == 0:
            (directory / f"_{part}.failed.json").write_bytes(NOTE)
        os.close(os.open(directory / f"{part}.parquet", os.O_CREAT | os.O_WRONLY))


if __name__ == "__main__":
    print(json.dumps(make(Path(sys.argv[1]), *map(int, sys.argv[2:]))))
