from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.catalog import CatalogTables, discover, plan_parts, read_part, sources
from engine.catalog.tables import file_name, is_current, read_header
from engine.errors import StorageError
from engine.storage import locate
from tests.catalog.sets import catalog_all, entries, picture, tar_bytes, webdataset


def write(path: Path, data: bytes, seconds: int = 0) -> None:
    """Write a file whose time is another each time."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1_700_000_000 + seconds, 1_700_000_000 + seconds))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for n in range(3):
        write(tmp_path / "set" / f"{n}.tar", tar_bytes(entries(2, 2 * n)))
    return tmp_path / "set"


def test_a_killed_build_resumes_by_shard(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = webdataset(source)
    tables = CatalogTables(locate(tmp_path / "catalog"))
    shards = discover(images)
    tables.update(shards[0], images)
    scanned: list[str] = []
    original = sources.scan
    monkeypatch.setattr(sources, "scan", lambda s, i: (scanned.append(s.name), original(s, i))[1])
    again = CatalogTables(locate(tmp_path / "catalog"))
    assert [again.update(shard, images).scanned for shard in shards] == [False, True, True]
    assert scanned == ["1.tar", "2.tar"]
    assert sorted(again.get_all(shards)) == ["0.tar", "1.tar", "2.tar"]


def test_a_changed_shard_is_noticed_and_named(source: Path, tmp_path: Path) -> None:
    images = webdataset(source)
    tables, _ = catalog_all(images, tmp_path / "catalog")
    before = plan_parts(tables.directory, tables.get_all(discover(images)).values(), 2, 2**20)
    write(source / "1.tar", tar_bytes(entries(2, 7)), seconds=5)
    shards = discover(images)
    assert [is_current(tables.get_all(shards)[s.name], s) for s in shards] == [True, False, True]
    updates = [tables.update(s, images) for s in shards]
    assert [u.change for u in updates] == [
        None,
        "shard 1.tar has changed since it was cataloged: its parts are computed anew",
        None,
    ]
    after = plan_parts(tables.directory, [u.shard for u in updates], 2, 2**20)
    same = [a == b for a, b in zip(before["part"].to_pylist(), after["part"].to_pylist(), strict=True)]
    assert same == [True, False, True]


def test_a_touched_shard_is_read_again_and_keeps_its_parts(source: Path, tmp_path: Path) -> None:
    images = webdataset(source)
    tables, _ = catalog_all(images, tmp_path / "catalog")
    os.utime(source / "1.tar", (1_800_000_000, 1_800_000_000))
    updates = [tables.update(s, images) for s in discover(images)]
    assert [(u.scanned, u.change) for u in updates] == [(False, None), (True, None), (False, None)]
    assert not any(tables.update(s, images).scanned for s in discover(images))


def test_a_moved_set_keeps_its_parts_and_is_read_from_its_new_place(source: Path, tmp_path: Path) -> None:
    tables, _ = catalog_all(webdataset(source), tmp_path / "catalog")
    before = plan_parts(tables.directory, tables.get_all(discover(webdataset(source))).values(), 2, 2**20)
    moved = webdataset(source.rename(tmp_path / "moved"))
    updates = [tables.update(s, moved) for s in discover(moved)]
    assert [u.change for u in updates] == [None] * 3
    assert plan_parts(tables.directory, [u.shard for u in updates], 2, 2**20) == before
    rows = read_part(tables.directory / updates[0].shard.file, 0, 2).to_pylist()
    assert [row["image"] for row in rows] == [picture(0), picture(1)]
    assert "/moved/" in rows[0]["uri"]


def test_other_settings_scan_again(source: Path, tmp_path: Path) -> None:
    tables, _ = catalog_all(webdataset(source), tmp_path / "catalog")
    index = webdataset(source, digest="index")
    assert all(tables.update(s, index).scanned for s in discover(index))


def test_shards_that_are_gone_are_named(source: Path, tmp_path: Path) -> None:
    tables, _ = catalog_all(webdataset(source), tmp_path / "catalog")
    (source / "1.tar").unlink()
    shards = discover(webdataset(source))
    assert tables.gone(shards) == ["1.tar"]
    assert sorted(tables.get_all(shards)) == ["0.tar", "2.tar"]


def test_byte_copies_have_parts_of_their_own(source: Path, tmp_path: Path) -> None:
    write(source / "copy.tar", (source / "0.tar").read_bytes())
    tables, _ = catalog_all(webdataset(source), tmp_path / "catalog")
    plan = plan_parts(tables.directory, tables.get_all(discover(webdataset(source))).values(), 2, 2**20)
    assert len(set(plan["part"].to_pylist())) == 4


def test_a_replaced_shard_is_not_read_by_old_offsets(source: Path, tmp_path: Path) -> None:
    images = webdataset(source)
    tables, _ = catalog_all(images, tmp_path / "catalog")
    place = tables.directory / file_name("1.tar")
    write(source / "1.tar", tar_bytes(entries(2, 7)), seconds=5)
    with pytest.raises(StorageError, match=r"shard 1\.tar has changed .* run the same command again"):
        read_part(place, 0, 2)
    (source / "1.tar").unlink()
    with pytest.raises(StorageError, match=r"1\.tar: shard 1\.tar is gone"):
        read_part(place, 0, 2)


def test_a_strange_file_in_the_catalog_is_named(tmp_path: Path) -> None:
    import pyarrow as pa

    place = locate(tmp_path / "x.parquet")
    place.write_table(pa.table({"a": [1]}))
    with pytest.raises(StorageError, match=r"x\.parquet: is no catalog table; delete it"):
        read_header(place)


@pytest.mark.parametrize("name", ["../../etc/x", "a\nb", "日本", "x" * 5000, "..", "train/00000.tar"])
def test_file_names_are_plain_and_unique(name: str) -> None:
    file = file_name(name)
    assert "/" not in file and len(file) < 100 and file.isascii() and file.isprintable()
    assert not file.startswith(".") and file != file_name(name + " ")
