from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.catalog import discover
from engine.errors import RecipeError, StorageError
from engine.recipe import Images
from engine.storage import Location, locate
from engine.training import reader as reader_module
from engine.training.reader import ImageReader
from tests.catalog.sets import catalog_all, entries, picture, tar_bytes, webdataset

COUNT = 12
PICTURES = [picture(number) for number in range(COUNT)]


def put(root: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (locate(root) / name).write_bytes(data)


def tars(root: str) -> Images:
    put(root, {f"set/{n}.tar": tar_bytes(entries(4, 4 * n)) for n in range(3)})
    return webdataset(f"{root}/set/*.tar")


def folder(root: str) -> Images:
    put(root, {f"tree/{n:02d}.jpg": PICTURES[n] for n in range(COUNT)})
    return Images(source="folder", uri=f"{root}/tree", shard_images=5)


def parquet(root: str) -> Images:
    for half in range(2):
        sink = pa.BufferOutputStream()
        some = PICTURES[6 * half : 6 * half + 6]
        structs = [{"bytes": data, "path": None} for data in some]
        pq.write_table(pa.table({"image": structs if half else some}), sink, row_group_size=2)
        put(root, {f"{half}.parquet": bytes(sink.getvalue())})
    return Images(source="parquet", uri=f"{root}/*.parquet")


SOURCES: dict[str, Callable[[str], Images]] = {"tar": tars, "folder": folder, "parquet": parquet}


def images_of(images: Images, catalog: Location) -> pa.Table:
    """Catalog a set; all its rows as `Pairs` holds them, in the order of their keys."""
    tables, _ = catalog_all(images, catalog.uri)
    found = []
    for header in tables.get_all(discover(images)).values():
        table = (catalog / header.file).read_table(["id", "key"])
        names = pa.array([header.file] * len(table))
        found.append(
            table.append_column("catalog", names).append_column("row", pa.array(np.arange(len(table))))
        )
    return pa.concat_tables(found).replace_schema_metadata(None)


def shuffled(images: pa.Table, seed: int = 0) -> pa.Table:
    return images.take(np.random.default_rng(seed).permutation(len(images)))


def expected(images: Images, catalog: Location, table: pa.Table) -> list[bytes]:
    """What read_part gives for each row."""
    from engine.catalog import read_part

    return [
        read_part(catalog / row["catalog"], row["row"], 1)["image"][0].as_py() for row in table.to_pylist()
    ]


@pytest.mark.parametrize("source", SOURCES)
def test_images_of_any_source_in_any_order(tmp_path: Path, source: str) -> None:
    catalog = locate(tmp_path / "catalog")
    images = SOURCES[source](str(tmp_path))
    table = shuffled(images_of(images, catalog))
    wanted = expected(images, catalog, table)
    assert sorted(wanted) == sorted(PICTURES)
    reader = ImageReader(catalog, table)
    reader.check()
    assert reader.read(range(COUNT)) == wanted
    some = [7, 0, 7, 11, 3, 0]
    assert reader.read(some) == [wanted[row] for row in some]
    assert reader.read(np.array([5])) == [wanted[5]] and reader.read([]) == []


@pytest.mark.parametrize("source", SOURCES)
def test_images_in_an_object_store(bucket: str, source: str) -> None:
    catalog = Location(f"{bucket}/run/catalog")
    images = SOURCES[source](bucket)
    table = shuffled(images_of(images, catalog))
    assert ImageReader(catalog, table).read([4, 2, 9]) == [
        expected(images, catalog, table)[row] for row in (4, 2, 9)
    ]


def test_the_cache_of_catalogs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = locate(tmp_path / "catalog")
    table = images_of(tars(str(tmp_path)), catalog)
    opened = list[int]()
    original = ImageReader._open
    monkeypatch.setattr(ImageReader, "_open", lambda self, n: (opened.append(n), original(self, n))[1])
    reader = ImageReader(catalog, table)
    for _ in range(3):
        reader.read(range(COUNT))
    assert sorted(opened) == [0, 1, 2]
    one = next(iter(reader._shards.values())).table.nbytes
    assert reader._held == 3 * one
    monkeypatch.setattr(reader_module, "_CACHE_BYTES", 2 * one)
    reader = ImageReader(catalog, table)
    for row in range(COUNT):
        assert len(reader._shards) <= 2 and reader._held == len(reader._shards) * one
        reader.read([row])
    assert list(reader._shards) == [1, 2]
    reader.read([4])
    reader.read([0])
    assert list(reader._shards) == [1, 0], "the shard that was used last is kept"


def test_several_threads_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = locate(tmp_path / "catalog")
    images = tars(str(tmp_path))
    table = shuffled(images_of(images, catalog))
    wanted = expected(images, catalog, table)
    monkeypatch.setattr(reader_module, "_CACHE_BYTES", 1)
    reader = ImageReader(catalog, table)
    rows = [np.random.default_rng(seed).permutation(COUNT) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        for order, found in zip(rows, threads.map(reader.read, rows), strict=True):
            assert found == [wanted[row] for row in order]
    assert reader._held == sum(shard.table.nbytes for shard in reader._shards.values())


def test_a_compressed_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_bytes(entries(3), "w:gz"))
    (tmp_path / "b.tar").write_bytes(tar_bytes(entries(3)))
    catalog = locate(tmp_path / "catalog")
    table = images_of(webdataset(f"{tmp_path}/*.tar*"), catalog)
    reader = ImageReader(catalog, table)
    with pytest.raises(RecipeError, match=r"a\.tar\.gz: is compressed.*gunzip"):
        reader.check()
    with pytest.raises(RecipeError, match="gunzip"):
        reader.read(range(6))
    whole = [not name.startswith("a") for name in table["catalog"].to_pylist()]
    ImageReader(catalog, table.filter(pa.array(whole))).check()


def test_a_shard_that_changed_or_is_gone(tmp_path: Path) -> None:
    catalog = locate(tmp_path / "catalog")
    table = images_of(tars(str(tmp_path)), catalog)
    reader = ImageReader(catalog, table)
    assert reader.read([0, 5]) == [PICTURES[0], PICTURES[5]]
    shard = tmp_path / "set" / "1.tar"
    # Of the same size, with other images: only the time tells.
    shard.write_bytes(tar_bytes(entries(4)))
    os.utime(shard, ns=(0, shard.stat().st_mtime_ns + 10**9))
    with pytest.raises(StorageError, match=r"1\.tar has changed"):
        reader.read([0, 5])
    assert reader.read([0, 9]) == [PICTURES[0], PICTURES[9]]
    shard.unlink()
    with pytest.raises(StorageError, match=r"1\.tar is gone"):
        reader.read([4])


def test_a_file_that_is_missing_is_a_reason_and_a_changed_one_stops(tmp_path: Path) -> None:
    catalog = locate(tmp_path / "catalog")
    table = images_of(folder(str(tmp_path)), catalog)
    reader = ImageReader(catalog, table)
    keys = table["key"].to_pylist()
    lost = next(row for row, key in enumerate(keys) if key.endswith("04"))
    (tmp_path / "tree" / "04.jpg").unlink()
    found = reader.read(range(COUNT))
    assert found[lost] == "image file is missing"
    assert sum(not isinstance(image, str) for image in found) == COUNT - 1
    (tmp_path / "tree" / "05.jpg").write_bytes(b"other")
    with pytest.raises(StorageError, match="has changed"):
        reader.read(range(COUNT))


def test_a_catalog_that_was_made_anew_with_other_images(tmp_path: Path) -> None:
    catalog = locate(tmp_path / "catalog")
    table = images_of(tars(str(tmp_path)), catalog)
    shard = tmp_path / "set" / "1.tar"
    for members in (entries(4, 5), entries(2, 4)):
        shard.write_bytes(tar_bytes(members))
        os.utime(shard, ns=(0, shard.stat().st_mtime_ns + 10**9))
        catalog_all(webdataset(f"{tmp_path}/set/*.tar"), catalog.uri)
        with pytest.raises(StorageError, match=r"1\.tar was cataloged anew .* finetune\.name"):
            ImageReader(catalog, table).read([4])
    (catalog / table["catalog"][4].as_py()).delete()
    with pytest.raises(StorageError, match="does not exist"):
        ImageReader(catalog, table).read([4])


def test_rows_without_an_image_say_why(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes([*entries(2), ("00009.jpg", b""), ("00010.txt", b"text")]))
    catalog = locate(tmp_path / "catalog")
    table = images_of(webdataset(tmp_path / "a.tar"), catalog)
    found = ImageReader(catalog, table).read(range(len(table)))
    assert found[:2] == PICTURES[:2]
    assert len(found) > 2 and all(isinstance(reason, str) and reason for reason in found[2:])
