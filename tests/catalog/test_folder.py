from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import discover, read_part, scan
from engine.catalog.shard import scan_settings
from engine.errors import StorageError
from engine.recipe import Images
from engine.storage import digest_of
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


@pytest.fixture
def metaphors(tmp_path: Path) -> Path:
    root = tmp_path / "haivmet"
    for n, name in enumerate(("A_lawyer is a shark/0.png", "Time is money./0.png", "x/Time is money./1.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(n))
    (root / "0.png").write_bytes(picture(3))
    for name in ("0.txt", "Time is money./0.txt", "Time is money./0.json"):
        (root / name).write_text('{"caption": "beside the image"}')
    return root


def test_captions_are_the_names_of_folders(metaphors: Path, tmp_path: Path) -> None:
    rows = read_all(folder(metaphors, caption_from="folder_name"), tmp_path / "catalog")
    assert [(row["key"], row["captions"], row["image"]) for row in rows] == [
        ("0", [], picture(3)),
        ("A_lawyer is a shark/0", ["A_lawyer is a shark"], picture(0)),
        ("Time is money./0", ["Time is money."], picture(1)),
        ("x/Time is money./1", ["Time is money."], picture(2)),
    ]
    assert [row["extra"] for row in rows] == [None] * 4, "what lies beside the images is ignored"
    assert len({row["id"] for row in rows}) == 4


def test_names_of_folders_with_hostile_characters(tmp_path: Path) -> None:
    names = [" spaced ", "a\nb", "-rf ~", "日本", "{0..9}*", "y" * 200]
    for n, name in enumerate(names):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "0.jpg").write_bytes(picture(n))
    rows = read_all(folder(tmp_path / "set", caption_from="folder_name"), tmp_path / "catalog")
    assert {row["captions"][0]: row["image"] for row in rows} == {
        name.strip(): picture(n) for n, name in enumerate(names)
    }


def test_where_captions_come_from_decides_the_shards(metaphors: Path, tmp_path: Path) -> None:
    sidecar = folder(metaphors)
    tables, _ = catalog_all(sidecar, tmp_path / "catalog")
    named = folder(metaphors, caption_from="folder_name")
    updates = [tables.update(s, named) for s in discover(named)]
    assert [u.scanned for u in updates] == [True] * 4
    # An image in the root had one caption and has none; one without a sidecar had none and has one.
    assert [bool(u.change) for u in updates] == [True] * 4
    (metaphors / "Time is money." / "0.txt").write_text("another caption")
    assert not any(tables.update(s, named).scanned for s in discover(named)), "sidecars are not read"
    assert [tables.update(s, sidecar).scanned for s in discover(sidecar)] == [True] * 4


def test_settings_at_their_default_leave_older_catalogs_as_they_are(tree: Path) -> None:
    # The settings' digest as it was before captions could come from anywhere else.
    assert scan_settings(folder(tree)) == digest_of("1", "folder", "image", "", "", "content")
    others = [folder(tree, caption_from="folder_name"), folder(tree, captions_each=5)]
    assert len({scan_settings(images) for images in (folder(tree), *others)}) == 3
