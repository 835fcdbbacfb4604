"""Every source out of an object store, with the run's catalog in it too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.catalog import discover
from engine.errors import RecipeError, StorageError
from engine.recipe import Images
from engine.storage import Location
from tests.catalog.sets import catalog_all, entries, picture, read_all, tar_bytes

PICTURES = [picture(n) for n in range(6)]


def put(bucket: str, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (Location(bucket) / name).write_bytes(data)


def shards(count: int) -> dict[str, bytes]:
    return {f"set/{n:03d}.tar": tar_bytes(entries(2, 2 * n)) for n in range(count)}


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": PICTURES}), sink, row_group_size=2)
    return bytes(sink.getvalue())


COCO = {
    "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(6)],
    "annotations": [{"id": n, "image_id": n, "caption": f"caption {n}"} for n in range(6)],
}
CASES: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = {
    "range": (shards(3), {"source": "webdataset", "uri": "/set/{000..002}.tar"}),
    "glob": (shards(3), {"source": "webdataset", "uri": "/set/*.tar"}),
    "directory": (shards(3), {"source": "webdataset", "uri": "/set"}),
    "gzip": ({"a.tar.gz": tar_bytes(entries(6), "w:gz")}, {"source": "webdataset", "uri": "/a.tar.gz"}),
    "index": (shards(3), {"source": "webdataset", "uri": "/set", "digest": "index"}),
    "parquet": ({"a.parquet": parquet_bytes()}, {"source": "parquet", "uri": "/*.parquet"}),
    "folder": (
        {**{f"tree/{n}.jpg": PICTURES[n] for n in range(6)}, "tree/0.txt": b"caption 0"},
        {"source": "folder", "uri": "/tree", "shard_images": 4},
    ),
    "coco": (
        {**{f"i/{n}.jpg": PICTURES[n] for n in range(6)}, "c.json": json.dumps(COCO).encode()},
        {"source": "coco", "uri": "/i", "annotations": "/c.json"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_source_in_an_object_store(bucket: str, case: str) -> None:
    files, settings = CASES[case]
    put(bucket, files)
    placed = {k: f"{bucket}{v}" if k in ("uri", "annotations") else v for k, v in settings.items()}
    rows = read_all(Images(**placed), f"{bucket}/run/catalog")
    assert [row["image"] for row in rows] == PICTURES
    assert all(row["error"] is None and row["uri"].startswith(bucket) for row in rows)
    if settings["source"] != "parquet":
        assert rows[0]["captions"] == ["caption 0"]


def test_many_names_are_looked_up_by_listing(bucket: str) -> None:
    put(bucket, shards(20))
    images = Images(source="webdataset", uri=f"{bucket}/set/{{000..019}}.tar")
    assert len(discover(images)) == 20
    with pytest.raises(RecipeError, match=r"020\.tar does not exist .*1 missing of 21"):
        discover(Images(source="webdataset", uri=f"{bucket}/set/{{000..020}}.tar"))


def test_nothing_there(bucket: str) -> None:
    with pytest.raises(RecipeError, match=r"images\.uri"):
        discover(Images(source="webdataset", uri=f"{bucket}/nowhere"))


def test_a_vanished_file_is_an_error_row_and_a_vanished_shard_is_none(bucket: str) -> None:
    from engine.catalog import read_part

    put(bucket, {f"tree/{n}.jpg": PICTURES[n] for n in range(3)})
    images = Images(source="folder", uri=f"{bucket}/tree")
    tables, _ = catalog_all(images, f"{bucket}/run/catalog")
    (header,) = tables.get_all(discover(images)).values()
    Location(f"{bucket}/tree/1.jpg").delete()
    rows = read_part(tables.directory / header.file, 0, 3).to_pylist()
    assert [row["error"] for row in rows] == [None, "image file is missing", None]
    fs, path = Location(f"{bucket}/tree").resolve()
    fs.delete_dir(path)
    with pytest.raises(StorageError, match="is gone"):
        read_part(tables.directory / header.file, 0, 3)
