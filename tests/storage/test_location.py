from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.errors import StorageError
from engine.storage import Location, locate


def test_paths_join_and_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("a/b") == Location(str(tmp_path / "a/b")) == locate(f"file://{tmp_path}/a/b")
    assert locate("s3://bucket/a/") / "b" == Location("s3://bucket/a/b")
    assert (locate("s3://bucket/a/b.tar").name, locate("s3://b/a").is_local) == ("b.tar", False)
    with pytest.raises(StorageError, match="empty path"):
        locate("")


def test_a_round_trip(tmp_path: Path) -> None:
    place = locate(tmp_path / "deep" / "er" / "a.bin")
    assert not place.exists()
    place.write_bytes(b"0123456789")
    place.write_bytes(b"abcdefghij")
    assert place.read_bytes() == b"abcdefghij"
    assert (place.read_bytes(3, 4), place.read_bytes(8, 99), place.read_bytes(8)) == (b"defg", b"ij", b"ij")
    assert place.info().size == 10
    place.delete()
    place.delete()
    assert not place.exists()


class Killed(BaseException):
    """Stands for the process ending there: nothing catches it."""


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_is_interrupted_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    directory = locate(tmp_path / "tables")
    (directory / "a").write_bytes(b"old")

    def die(*_: Any) -> None:
        assert len(list((tmp_path / "tables").iterdir())) == 2, "the new bytes lie beside the old"
        assert directory.names() == {"a"}, "but are no file of the directory"
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, moment, die)
        (directory / "a").write_bytes(b"new")
    assert (directory / "a").read_bytes() == b"old"
    (tmp_path / "tables" / ".a.1234abcd").write_bytes(b"left by SIGKILL")
    assert directory.names() == {"a"}


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"a\.bin: the disk is full; make room and run the same command again"
    ):
        locate(tmp_path / "a.bin").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_messages_name_the_place_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"none\.txt: does not exist; check the path"):
        locate(tmp_path / "none.txt").read_text()
    (tmp_path / "a.txt").write_bytes(b"ok\xff")
    with pytest.raises(StorageError, match=r"a\.txt: not UTF-8 text \(.* at byte 2\)"):
        locate(tmp_path / "a.txt").read_text()
    with pytest.raises(StorageError, match="nosuchscheme://x: cannot be reached"):
        locate("nosuchscheme://x/y").exists()

    def deny(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "fsync", deny)
    with pytest.raises(StorageError, match=r"no permission .* check its owner and mode"):
        locate(tmp_path / "b.bin").write_bytes(b"x")


def test_listing(tmp_path: Path) -> None:
    for name in ("b/2", "a", "b/1"):
        (locate(tmp_path) / name).write_bytes(b"")
    place = locate(tmp_path)
    assert place.names() == {"a"}
    relative = [i.path.removeprefix(f"{tmp_path}/") for i in place.entries(recursive=True)]
    assert relative == ["a", "b", "b/1", "b/2"]
    assert (place / "none").entries() == [] and (place / "none").names() == set()


def test_names_are_those_of_whole_files(tmp_path: Path) -> None:
    for name in ("a.parquet", "_a.failed.json", ".b.parquet.0a1b2c3d", "below/c.parquet"):
        (locate(tmp_path) / name).write_bytes(b"x")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "below" / "c.parquet")
    (tmp_path / "dead.parquet").symlink_to(tmp_path / "nowhere")
    assert locate(tmp_path).names() == {"a.parquet", "_a.failed.json", "link.parquet"}
    assert (locate(tmp_path) / "nothing").names() == set()
    with pytest.raises(StorageError, match=r"a\.parquet: NotADirectoryError"):
        (locate(tmp_path) / "a.parquet").names()


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_file_is_read_if_it_is_there(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = locate(tmp_path if where == "disk" else request.getfixturevalue("bucket")) / "note.json"
    assert place.read_if_there() is None
    place.write_bytes(b"{}")
    assert place.read_if_there() == b"{}"
    with pytest.raises(StorageError):
        Location("s3://" if where == "store" else str(tmp_path)).read_if_there()


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(1000)), "b": ["x", None] * 500})
    one, two = locate(tmp_path / "1.parquet"), locate(tmp_path / "2.parquet")
    one.write_table(table)
    two.write_table(table.slice(0))
    assert one.read_bytes() == two.read_bytes()
    assert one.read_table(["b"]) == table.select(["b"])


def test_an_object_store_round_trip(bucket: str) -> None:
    place = locate(f"{bucket}/run/a.parquet")
    assert not place.exists()
    table = pa.table({"a": [1, 2]})
    place.write_table(table)
    assert place.read_table() == table
    assert locate(f"{bucket}/run").names() == {"a.parquet"}
    packed = locate(f"{bucket}/run/a.gz")
    packed.write_bytes(b"as it is")
    assert packed.read_bytes() == b"as it is", "no compression by the ending of the name"
    assert packed.read_bytes(3, 2) == b"it"
    place.delete()
    assert not place.exists()
    with pytest.raises(StorageError, match="does not exist"):
        place.read_bytes()


def test_a_bucket_that_is_not_there_is_named(bucket: str) -> None:
    with pytest.raises(
        StorageError, match=r"s3://photographs/a: no such bucket; create it, or correct its name"
    ):
        Location("s3://photographs/a").write_bytes(b"x")
