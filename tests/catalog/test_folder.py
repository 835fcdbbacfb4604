from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import discover, read_part, scan
from engine.errors import StorageError
from engine.recipe import Images
from tests.catalog.sets import catalog_all, picture, read_all


def folder(uri: object, **more: Any) -> Images:
    return Images(source="folder", uri=str(uri), **more)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for n, name in enumerate(("b/0.jpg", "b/1.JPG", "a/x/0.png", "a/y.jpeg", "a-b/0.jpg", "top.webp")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(n))
    (root / "b/0.txt").write_text(" a caption \n")
    (root / "b/0.json").write_text('{"license": 4}')
    (root / "b/readme.md").write_text("no image")
    (root / "captions.json").write_text("{}")
    return root


def test_keys_captions_extra_and_bytes(tree: Path, tmp_path: Path) -> None:
    rows = read_all(folder(tree), tmp_path / "catalog")
    assert [row["key"] for row in rows] == ["top", "a-b/0", "a/x/0", "a/y", "b/0", "b/1"]
    assert [row["image"] for row in rows] == [picture(n) for n in (5, 4, 2, 3, 0, 1)]
    first = rows[4]
    assert (first["captions"], json.loads(first["extra"])) == (["a caption"], {"license": 4})


def test_additions_to_one_directory_leave_the_others_alone(tree: Path) -> None:
    images = folder(tree, shard_images=1)
    before = {s.name: scan(s, images) for s in discover(images)}
    assert len(before) == 6
    (tree / "a" / "added.jpg").write_bytes(picture(9))
    after = {s.name: scan(s, images) for s in discover(images)}
    same = {name for name in before if before[name].digest == after[name].digest}
    assert same == {"./000000", "a-b/000000", "b/000000", "b/000001"}
    ids = {row["key"]: row["id"] for found in before.values() for row in found.table.to_pylist()}
    new = {row["key"]: row["id"] for found in after.values() for row in found.table.to_pylist()}
    assert ids.items() < new.items(), "a sample keeps its id in whatever shard it falls"


def test_zero_bytes_missing_and_hostile_files(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for n, name in enumerate(("a\nb.jpg", "日本.jpg", "x" * 250 + ".jpg", "-rf ~.jpg", "{0..9}*.jpg")):
        (root / name).write_bytes(picture(n))
    (root / "empty.jpg").touch()
    (root / "text.png").write_text("not an image, which decoding finds")
    rows = {row["key"]: row for row in read_all(folder(root), tmp_path / "catalog")}
    assert rows["empty"]["error"] == "zero bytes" and rows["empty"]["image"] is None
    assert rows["text"]["image"] == b"not an image, which decoding finds"
    assert [rows[k]["image"] for k in ("a\nb", "日本", "x" * 250, "-rf ~", "{0..9}*")] == [
        picture(n) for n in range(5)
    ]


def test_same_stem_twice_gives_two_ids(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.jpg").write_bytes(picture(0))
    (root / "a.png").write_bytes(picture(1))
    rows = read_all(folder(root), tmp_path / "catalog")
    assert [row["key"] for row in rows] == ["a", "a"] and rows[0]["id"] != rows[1]["id"]


def test_two_roots_with_the_same_names(tmp_path: Path) -> None:
    for root in ("one", "two"):
        (tmp_path / root / "a").mkdir(parents=True)
        (tmp_path / root / "a" / "0.jpg").write_bytes(picture(0))
    images = Images(source="folder", uri=(str(tmp_path / "one"), str(tmp_path / "two")))
    assert [s.name for s in discover(images)] == ["a/000000", "two/a/000000"]
    assert len({row["id"] for row in read_all(images, tmp_path / "catalog")}) == 2


@pytest.mark.parametrize("digest", ["content", "index"])
def test_a_new_caption_is_noticed(tree: Path, tmp_path: Path, digest: str) -> None:
    images = folder(tree, digest=digest)
    tables, _ = catalog_all(images, tmp_path / "catalog")
    (tree / "b/0.txt").write_text("another caption")
    changes = [tables.update(s, images).change for s in discover(images)]
    assert [bool(change) for change in changes] == [False, False, False, True]
    assert "b/000000" in str(changes[3])


def test_files_that_vanish_or_change_after_cataloging(tree: Path, tmp_path: Path) -> None:
    images = folder(tree)
    tables, _ = catalog_all(images, tmp_path / "catalog")
    shard = tables.get(next(s for s in discover(images) if s.name == "b/000000"))
    assert shard is not None
    (tree / "b/0.jpg").unlink()
    rows = read_part(tables.directory / shard.file, 0, 2).to_pylist()
    assert [row["error"] for row in rows] == ["image file is missing", None]
    stat = (tree / "b/1.JPG").stat()
    (tree / "b/1.JPG").write_bytes(picture(7))
    os.utime(tree / "b/1.JPG", ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    with pytest.raises(StorageError, match=r"b/000000 has changed.*run the same command again"):
        read_part(tables.directory / shard.file, 0, 2)
    tree.rename(tree.with_name("elsewhere"))
    with pytest.raises(StorageError, match="b/000000 is gone"):
        read_part(tables.directory / shard.file, 0, 2)
