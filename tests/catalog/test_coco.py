from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import discover, scan
from engine.errors import RecipeError
from engine.recipe import Images
from tests.catalog.sets import catalog_all, picture, read_all


def annotations(count: int) -> dict[str, Any]:
    return {
        "images": [
            {"id": 10 * n, "file_name": f"{n:012d}.jpg", "license": n} for n in reversed(range(count))
        ],
        "annotations": [
            {"id": 100 * n + k, "image_id": 10 * n, "caption": f"caption {n} {k}"}
            for k in (2, 0, 1)
            for n in range(count)
        ],
    }


def coco(tmp_path: Path, data: Any, below: str = "", count: int = 6, **more: Any) -> Images:
    folder = tmp_path / "images" / below
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / f"{n:012d}.jpg").write_bytes(picture(n))
    place = tmp_path / "captions_train2014.json"
    place.write_text(data if isinstance(data, str) else json.dumps(data))
    return Images(source="coco", uri=str(tmp_path / "images"), annotations=str(place), **more)


@pytest.mark.parametrize("below", ["", "train2014"])
def test_keys_captions_in_order_and_extra(tmp_path: Path, below: str) -> None:
    images = coco(tmp_path, annotations(6), below, shard_images=4)
    if below:
        coco(tmp_path, annotations(6), "val2014")
    assert [s.name for s in discover(images)] == ["captions_train2014/000000", "captions_train2014/000001"]
    rows = read_all(images, tmp_path / "catalog")
    assert [row["key"] for row in rows] == [f"{n:012d}" for n in range(6)]
    assert [row["image"] for row in rows] == [picture(n) for n in range(6)]
    assert rows[3]["captions"] == ["caption 3 0", "caption 3 1", "caption 3 2"]
    assert json.loads(rows[3]["extra"]) == {"image_id": 30, "caption_ids": [300, 301, 302], "license": 3}
    assert below in rows[0]["uri"]


def test_a_missing_image_is_an_error_row(tmp_path: Path) -> None:
    data = annotations(3)
    data["images"].append({"id": 9, "file_name": "../../../etc/passwd"})
    rows = read_all(coco(tmp_path, data, count=2), tmp_path / "catalog")
    assert [(row["key"], row["error"], row["image"] is None) for row in rows] == [
        ("../../../etc/passwd", "image file is missing", True),
        ("000000000000", None, False),
        ("000000000001", None, False),
        ("000000000002", "image file is missing", True),
    ]


def test_an_ambiguous_name_is_refused(tmp_path: Path) -> None:
    coco(tmp_path, annotations(2), "a")
    with pytest.raises(RecipeError, match=r"images\.uri: 000000000000\.jpg is in a/.* and b/"):
        discover(coco(tmp_path, annotations(2), "b"))


def test_a_changed_caption_changes_its_shard_only(tmp_path: Path) -> None:
    images = coco(tmp_path, annotations(6), shard_images=3)
    tables, _ = catalog_all(images, tmp_path / "catalog")
    data = annotations(6)
    data["annotations"][5]["caption"] = "another one"
    coco(tmp_path, data)
    updates = [tables.update(s, images) for s in discover(images)]
    assert [u.scanned for u in updates] == [True, True]
    assert [bool(u.change) for u in updates] == [False, True]


@pytest.mark.parametrize(
    "data",
    ["", "{", "[1]", "{}", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}', "[" * 100000],
)
def test_malformed_annotations_name_the_file(tmp_path: Path, data: str) -> None:
    with pytest.raises(RecipeError, match=r"images\.annotations: .*captions_train2014\.json"):
        discover(coco(tmp_path, data))


def test_missing_annotations_and_several_folders(tmp_path: Path) -> None:
    images = coco(tmp_path, annotations(1))
    with pytest.raises(RecipeError, match=r"images\.annotations: .*does not exist"):
        discover(images.model_copy(update={"annotations": str(tmp_path / "none.json")}))
    with pytest.raises(RecipeError, match=r"images\.uri: .*one image folder"):
        discover(images.model_copy(update={"uri": ("a", "b")}))


def test_index_digest_reads_no_image(tmp_path: Path) -> None:
    images = coco(tmp_path, annotations(3), digest="index")
    table = scan(discover(images)[0], images).table
    assert table["size"].to_pylist() == [len(picture(n)) for n in range(3)]
