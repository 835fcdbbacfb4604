from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import discover, scan
from engine.catalog.shard import scan_settings
from engine.errors import RecipeError
from engine.recipe import Images, parse_recipe
from tests.catalog.sets import catalog_all, picture, read_all

SPLITS = ["train", "restval", "val", "test", "test", "train"]


def name(n: int) -> str:
    return f"COCO_val2014_{n:012d}.jpg"


def image(n: int, split: str, sentences: int = 5, **more: Any) -> dict[str, Any]:
    return {
        "filename": name(n),
        "filepath": "val2014",
        "split": split,
        "imgid": n,
        "cocoid": 10 * n,
        "sentids": [100 * n + k for k in range(sentences)],
        "sentences": [
            {"raw": f"Caption {n} {k}. ", "tokens": ["caption"], "imgid": n, "sentid": 100 * n + k}
            for k in range(sentences)
        ],
        **more,
    }


def dataset() -> list[dict[str, Any]]:
    return [image(n, split, 7 if n == 3 else 5) for n, split in reversed(list(enumerate(SPLITS)))]


def karpathy(tmp_path: Path, data: Any, below: str = "val2014", count: int = 6, **more: Any) -> Images:
    folder = tmp_path / "images" / below
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / name(n)).write_bytes(picture(n))
    place = tmp_path / "dataset_coco.json"
    whole = {"dataset": "coco", "images": data} if isinstance(data, list) else data
    place.write_text(whole if isinstance(whole, str) else json.dumps(whole))
    return Images(source="karpathy", uri=str(tmp_path / "images"), annotations=str(place), **more)


@pytest.mark.parametrize("below", ["", "val2014", "coco/val2014"])
def test_the_test_split_with_all_its_captions_in_order(tmp_path: Path, below: str) -> None:
    images = karpathy(tmp_path, dataset(), below, shard_images=1)
    assert [s.name for s in discover(images)] == ["dataset_coco/000000", "dataset_coco/000001"]
    rows = read_all(images, tmp_path / "catalog")
    assert [row["key"] for row in rows] == ["COCO_val2014_000000000003", "COCO_val2014_000000000004"]
    assert [row["image"] for row in rows] == [picture(3), picture(4)]
    assert rows[0]["captions"] == [f"Caption 3 {k}." for k in range(7)]
    assert rows[1]["captions"] == [f"Caption 4 {k}." for k in range(5)]
    extra = {"imgid": 4, "cocoid": 40, "sentids": [400, 401, 402, 403, 404], "split": "test"}
    assert json.loads(rows[1]["extra"]) == extra


@pytest.mark.parametrize(
    ("split", "numbers"), [("train", [0, 5]), ("val", [2]), (["train", "restval"], [0, 1, 5])]
)
def test_other_splits(tmp_path: Path, split: Any, numbers: list[int]) -> None:
    rows = read_all(karpathy(tmp_path, dataset(), split=split), tmp_path / "catalog")
    assert [row["image"] for row in rows] == [picture(n) for n in numbers]


def test_flickr_has_neither_folders_nor_coco_ids(tmp_path: Path) -> None:
    data = [image(n, "test") for n in range(2)]
    for each in data:
        del each["filepath"], each["cocoid"]
    rows = read_all(karpathy(tmp_path, data, "flickr30k-images"), tmp_path / "catalog")
    assert [(row["key"], row["image"]) for row in rows] == [(name(n)[:-4], picture(n)) for n in range(2)]
    assert json.loads(rows[1]["extra"])["imgid"] == 1 and "cocoid" not in json.loads(rows[1]["extra"])


def test_a_missing_image_is_an_error_row(tmp_path: Path) -> None:
    data = [image(0, "test"), image(1, "test"), image(2, "test", filename="../../../../etc/passwd")]
    data.append(image(3, "test", filename="\ud800\n.jpg", filepath=""))
    rows = read_all(karpathy(tmp_path, data, count=1), tmp_path / "catalog")
    assert {(row["key"], row["error"]) for row in rows} == {
        ("../../../../etc/passwd", "image file is missing"),
        ("COCO_val2014_000000000000", None),
        ("COCO_val2014_000000000001", "image file is missing"),
        ("?\n", "image file is missing"),
    }
    assert all((row["image"] is None) == (row["error"] is not None) for row in rows)


def test_the_same_name_in_two_folders(tmp_path: Path) -> None:
    karpathy(tmp_path, [], "mine/val2014")
    other = tmp_path / "images" / "mine" / "train2014" / name(0)
    other.parent.mkdir()
    other.write_bytes(picture(9))
    data = [image(0, "test"), image(0, "test", filepath="train2014")]
    rows = read_all(karpathy(tmp_path, data, "mine/val2014"), tmp_path / "catalog")
    assert [row["image"] for row in rows] == [picture(9), picture(0)], "train2014/ sorts before val2014/"
    data = [image(0, "test", filepath="elsewhere")]
    with pytest.raises(RecipeError, match=r"images\.uri: elsewhere/COCO.*mine/train2014/.* and mine/val2014"):
        discover(karpathy(tmp_path, data, "mine/val2014"))


@pytest.mark.parametrize("shard_images", [1, 4096])
def test_an_image_listed_twice_is_two_samples(tmp_path: Path, shard_images: int) -> None:
    data = [image(0, "test"), image(1, "train"), image(0, "test")]
    rows = read_all(karpathy(tmp_path, data, shard_images=shard_images), tmp_path / "catalog")
    assert [row["image"] for row in rows] == [picture(0), picture(0)]
    assert len({row["id"] for row in rows}) == 2


def test_the_first_captions_of_each_image(tmp_path: Path) -> None:
    images = karpathy(tmp_path, dataset())
    tables, _ = catalog_all(images, tmp_path / "catalog")
    shard = discover(images)[0]
    five = images.model_copy(update={"captions_each": 5})
    table = scan(discover(five)[0], five).table
    assert table["captions"].to_pylist() == [[f"Caption {n} {k}." for k in range(5)] for n in (3, 4)]
    assert table.schema.equals(scan(shard, images).table.schema)
    update = tables.update(discover(five)[0], five)
    assert update.scanned and update.change, "fewer captions are other contents"
    seven = images.model_copy(update={"captions_each": 7})
    assert scan(discover(seven)[0], seven).digest == scan(shard, images).digest, "nothing was cut"


def test_another_split_is_scanned_anew(tmp_path: Path) -> None:
    images = karpathy(tmp_path, dataset(), split=["train", "restval"])
    tables, _ = catalog_all(images, tmp_path / "catalog")
    for split, scanned in ((("restval", "train"), False), ("test", True), ("train", True)):
        other = images.model_copy(update={"split": split})
        assert (scan_settings(other) != scan_settings(images)) == scanned
        assert tables.update(discover(other)[0], other).scanned == scanned


def test_a_changed_sentence_changes_its_shard_only(tmp_path: Path) -> None:
    images = karpathy(tmp_path, dataset(), shard_images=1)
    tables, _ = catalog_all(images, tmp_path / "catalog")
    data = dataset()
    data[1]["sentences"][2]["raw"] = "Another one."
    karpathy(tmp_path, data)
    updates = [tables.update(s, images) for s in discover(images)]
    assert [(u.scanned, bool(u.change)) for u in updates] == [(True, False), (True, True)]


def test_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    for split in ("tset", ["test", "tset"]):
        with pytest.raises(RecipeError, match="split 'tset'; it has restval, test, train, val"):
            discover(karpathy(tmp_path, dataset(), split=split))
    with pytest.raises(RecipeError, match=r"images\.split: .*dataset_coco\.json .*it has no images at all"):
        discover(karpathy(tmp_path, []))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "cannot be used"),
        ('{"images": [', "cannot be used"),
        ("[" * 100000, "cannot be used"),
        ("[1]", "is no Karpathy split file: it needs `images` with `filename`"),
        ({"annotations": []}, "is no Karpathy split file"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}]}, "is no Karpathy split file.*'filename'"),
        ({"images": [image(0, "test", filename=7)]}, "is no Karpathy split file"),
        ({"images": [image(0, "test", filepath=7)]}, "is no Karpathy split file"),
        ({"images": [{**image(0, "test"), "split": None}]}, "is no Karpathy split file"),
        ({"images": [{**image(0, "test"), "sentences": ["a caption"]}]}, "is no Karpathy split file"),
    ],
)
def test_what_is_no_split_file_is_refused(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"images\.annotations: .*dataset_coco\.json {message}"):
        discover(karpathy(tmp_path, data))


def test_several_folders_are_refused(tmp_path: Path) -> None:
    images = karpathy(tmp_path, dataset())
    with pytest.raises(RecipeError, match=r"images\.uri: source karpathy takes one image folder"):
        discover(images.model_copy(update={"uri": ("a", "b")}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{source: karpathy, uri: /data}", "`annotations` is needed by"),
        ("{source: poems, uri: /data}", "`annotations` is needed by"),
        ("{source: folder, uri: /data, annotations: a.json}", "`annotations` is needed by"),
        (
            "{source: coco, uri: /data, annotations: a.json, split: test}",
            "`split` belongs to source karpathy",
        ),
        ("{source: karpathy, uri: /data, annotations: a.json, split: []}", "`split` is empty"),
        ("{source: karpathy, uri: /data, annotations: a.json, split: ''}", "`split` is empty"),
        ("{source: karpathy, uri: /data, annotations: a.json, split: null}", "`split` is empty"),
        (
            "{source: karpathy, uri: /data, annotations: a.json, caption_from: sidecar}",
            "`caption_from` belongs to source folder",
        ),
        ("{source: folder, uri: /data, caption_from: folder}", "images.caption_from"),
        ("{source: folder, uri: /data, captions_each: 0}", "images.captions_each"),
    ],
)
def test_settings_that_do_not_belong_are_refused(settings: str, message: str) -> None:
    recipe = "generators: {vlm: {backend: scripted}}\ndescribe: {generator: vlm}\n"
    assert parse_recipe(recipe + "images: {source: karpathy, uri: /data, annotations: a.json}").images.splits
    with pytest.raises(RecipeError) as refused:
        parse_recipe(f"{recipe}images: {settings}")
    assert message in str(refused.value)
