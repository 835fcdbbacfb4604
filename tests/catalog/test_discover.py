from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from engine.catalog import discover
from engine.catalog.pattern import expand_braces, glob_matches
from engine.errors import RecipeError, StorageError
from engine.recipe import Images
from engine.storage import Location
from tests.catalog.sets import entries, tar_bytes, webdataset


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name in ("train/00000.tar", "train/00001.tar", "train/00002.tar", "val/00000.tar", ".half/00000.tar"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(tar_bytes(entries(1)))
    (root / "train" / "notes.txt").write_text("no shard")
    (root / "train" / ".00003.tar.tmp.tar").write_bytes(b"half written")
    return root


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["train/00000.tar", "train/00001.tar", "train/00002.tar", "val/00000.tar"]),
        ("/", ["train/00000.tar", "train/00001.tar", "train/00002.tar", "val/00000.tar"]),
        ("/train", ["00000.tar", "00001.tar", "00002.tar"]),
        ("/train/{00000..00001}.tar", ["00000.tar", "00001.tar"]),
        ("/{train,val}/00000.tar", ["train/00000.tar", "val/00000.tar"]),
        ("/{train,val}", ["train/00000.tar", "train/00001.tar", "train/00002.tar", "val/00000.tar"]),
        ("/train/*", ["00000.tar", "00001.tar", "00002.tar"]),
        ("/t*/*[12].tar", ["train/00001.tar", "train/00002.tar"]),
        ("/**/00000.tar", ["train/00000.tar", "val/00000.tar"]),
        ("/train/00001.tar", ["00001.tar"]),
    ],
)
def test_what_a_uri_names(shards: Path, pattern: str, names: list[str]) -> None:
    assert [shard.name for shard in discover(webdataset(f"{shards}{pattern}"))] == names


def test_moving_a_set_changes_no_name_and_no_state(shards: Path) -> None:
    before = discover(webdataset(shards))
    shutil.move(shards, shards.with_name("moved"))
    after = discover(webdataset(shards.with_name("moved")))
    assert [(s.name, s.state) for s in before] == [(s.name, s.state) for s in after]


def test_a_list_of_places_renames_nothing_that_came_before(shards: Path) -> None:
    train, val = str(shards / "train"), str(shards / "val")
    one = discover(Images(source="webdataset", uri=(train,)))
    two = discover(Images(source="webdataset", uri=(train, val, f"{train}/00001.tar")))
    assert [s.name for s in two] == ["00000.tar", "00001.tar", "00002.tar", "val/00000.tar"]
    assert set(one) < set(two)


def test_a_name_with_brackets_that_exists_is_meant_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "set [1]{a,b}.tar").write_bytes(tar_bytes(entries(1)))
    assert [s.name for s in discover(webdataset(tmp_path / "set [1]{a,b}.tar"))] == ["set [1]{a,b}.tar"]


def test_a_pattern_may_be_longer_than_a_name(shards: Path) -> None:
    names = ",".join(["00000", *(f"0000{n}" for n in (1, 2) for _ in range(100))])
    assert len(discover(webdataset(f"{shards}/train/{{{names}}}.tar"))) == 3


@pytest.mark.parametrize("source", ["webdataset", "parquet", "folder"])
@pytest.mark.parametrize("place", ["nowhere", "empty", "nowhere/*.tar"])
def test_nothing_found_names_the_setting(tmp_path: Path, source: str, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=rf"images\.uri: .*{place.split('/')[0]}.*"):
        discover(Images(source=source, uri=str(tmp_path / place)))  # type: ignore[arg-type]


def test_a_hole_in_a_range_is_refused(shards: Path) -> None:
    with pytest.raises(RecipeError, match=r"00003\.tar does not exist .*7 missing of 10"):
        discover(webdataset(f"{shards}/train/{{00000..00009}}.tar"))


def test_an_unreadable_directory_is_refused(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        (shards / "train").chmod(0)
    else:  # root reads everything
        monkeypatch.setattr("engine.storage.location._local", _Denied)
    with pytest.raises(RecipeError, match=r"images\.uri: .*no permission"):
        discover(webdataset(shards))


class _Denied:
    def get_file_info(self, what: object) -> pafs.FileInfo:
        if isinstance(what, str):
            return pafs.FileInfo(what, pafs.FileType.Directory)
        raise PermissionError(13, "Permission denied")


def test_a_failing_store_is_no_fault_of_the_recipe(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, what: object) -> None:
        raise OSError("connection reset")

    monkeypatch.setattr(_Denied, "get_file_info", fail)
    monkeypatch.setattr("engine.storage.location._local", _Denied)
    with pytest.raises(StorageError, match="connection reset"):
        discover(webdataset(shards))


def test_a_file_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tar")).write_bytes(b"")
    with pytest.raises(RecipeError, match=r"not UTF-8.*caf"):
        discover(webdataset(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "expanded"),
    [
        ("a{8..11}b", ["a8b", "a9b", "a10b", "a11b"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("{x{0..1},y}", ["x0", "y", "x1", "y"]),
        ("plain", ["plain"]),
        ("{kept}-{a,b}", ["{kept}-a", "{kept}-b"]),
    ],
)
def test_braces(pattern: str, expanded: list[str]) -> None:
    assert expand_braces(pattern) == expanded


@pytest.mark.parametrize("pattern", ["{5..3}", "{0..9999999}", "{0..9999}{0..9999}"])
def test_braces_that_cannot_be_meant(pattern: str) -> None:
    with pytest.raises(RecipeError, match=r"images\.uri"):
        expand_braces(pattern)


def test_globs() -> None:
    assert glob_matches("a/b/c.tar", "**/c.tar") and glob_matches("c.tar", "**/c.tar")
    assert glob_matches("a/b.tar", "*/*.tar") and not glob_matches("a/b/c.tar", "*/*.tar")


def test_a_run_inside_its_source_is_no_part_of_it(tmp_path: Path) -> None:
    for name in ("a.parquet", "run/catalog/b.parquet", "run/stages/describe-1/part.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": [b"x"]}), tmp_path / name)
    images = Images(source="parquet", uri=str(tmp_path))
    assert len(discover(images)) == 3
    assert [shard.name for shard in discover(images, Location(str(tmp_path / "run")))] == ["a.parquet"]
