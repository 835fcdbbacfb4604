from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import discover
from engine.errors import RecipeError
from engine.recipe import Images
from tests.catalog.sets import catalog_all, picture, read_all


def poem(n: int, url: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "poem": f"line one of {n}\nline two\n",
        "image_url": url or f"https://example.org/pictures/photo{n}.jpg?size=large",
        "id": n,
        **more,
    }


def poems(tmp_path: Path, data: Any, files: dict[str, int], **more: Any) -> Images:
    """The source, with the pictures of those numbers under those names."""
    folder = tmp_path / "images"
    folder.mkdir(exist_ok=True)
    for path, number in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(picture(number))
    place = tmp_path / "multim_poem.json"
    place.write_text(data if isinstance(data, str) else json.dumps(data))
    return Images(source="poems", uri=str(folder), annotations=str(place), **more)


@pytest.mark.parametrize(
    "names", [["1.jpg", "2.PNG", "a/3.webp"], ["photo1.jpg", "a/photo2.jpg", "photo3.jpg"]]
)
def test_images_by_id_or_by_url(tmp_path: Path, names: list[str]) -> None:
    images = poems(
        tmp_path, [poem(n, theme="sea") for n in (3, 1, 2)], dict(zip(names, (1, 2, 3), strict=True))
    )
    assert [shard.name for shard in discover(images)] == ["multim_poem/000000"]
    rows = read_all(images, tmp_path / "catalog")
    assert [(row["key"], row["image"]) for row in rows] == [(str(n), picture(n)) for n in (3, 1, 2)]
    assert rows[1]["captions"] == ["line one of 1\nline two"]
    url = "https://example.org/pictures/photo1.jpg?size=large"
    assert json.loads(rows[1]["extra"]) == {"image_url": url, "id": 1, "theme": "sea"}
    assert catalog_all(images, tmp_path / "catalog2")[1] == []


def test_poems_without_an_image_are_left_out_and_counted(tmp_path: Path) -> None:
    images = poems(tmp_path, [poem(n) for n in range(5)], {"1.jpg": 1, "3.jpg": 3, "other.jpg": 9})
    assert [row["key"] for row in read_all(images, tmp_path / "catalog")] == ["1", "3"]
    tables, warnings = catalog_all(images, tmp_path / "catalog")
    left_out = "multim_poem/000000: 3 of 5 poems have no image in the folder, and are left out"
    assert warnings == [left_out]
    (shard,) = tables.get_all(discover(images)).values()
    assert (shard.rows, shard.failed) == (2, 0)
    # An image that is downloaded later is noticed.
    poems(tmp_path, [poem(n) for n in range(5)], {"4.jpg": 4})
    assert [row["key"] for row in read_all(images, tmp_path / "catalog")] == ["1", "3", "4"]


def test_no_image_at_all_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"images\.uri: none of the 2 poems of .*multim_poem\.json has an im"
    ):
        discover(poems(tmp_path, [poem(1), poem(2)], {"3.jpg": 3}))
    with pytest.raises(RecipeError, match="none of the 0 poems"):
        discover(poems(tmp_path, [], {}))


def test_an_image_that_goes_after_the_listing_is_an_error_row(tmp_path: Path) -> None:
    images = poems(tmp_path, [poem(1), poem(2)], {"1.jpg": 1, "2.jpg": 2})
    (shard,) = discover(images)
    (tmp_path / "images" / "2.jpg").unlink()
    tables, _ = catalog_all(images, tmp_path / "other")
    update = tables.scan(shard, images)
    assert (update.shard.rows, update.shard.failed) == (2, 1)


@pytest.mark.parametrize("name", ["1.jpg", "photo.jpg"])
@pytest.mark.parametrize("shard_images", [1, 4096])
def test_two_poems_of_one_image_are_two_samples(tmp_path: Path, name: str, shard_images: int) -> None:
    url = "https://example.org/photo.jpg"
    images = poems(tmp_path, [poem(1, url), poem(2, url), poem(3)], {name: 1}, shard_images=shard_images)
    rows = read_all(images, tmp_path / "catalog")
    assert [(row["key"], row["image"]) for row in rows] == [("1", picture(1)), ("2", picture(1))]
    assert [row["captions"][0][:13] for row in rows] == ["line one of 1", "line one of 2"]
    assert len({row["id"] for row in rows}) == 2


def test_poems_of_one_url_may_have_an_image_each(tmp_path: Path) -> None:
    data = [poem(1, "https://example.org/a.jpg"), poem(2, "https://example.org/a.jpg")]
    rows = read_all(poems(tmp_path, data, {"1.jpg": 1, "2.jpg": 2}), tmp_path / "catalog")
    assert [row["image"] for row in rows] == [picture(1), picture(2)]
    rows = read_all(poems(tmp_path, [poem(n, image_url="") for n in (1, 3)], {}), tmp_path / "other")
    assert [row["key"] for row in rows] == ["1"], "no URL is not one URL"


@pytest.mark.parametrize("shard_images", [1, 4096])
def test_an_id_used_twice_gives_two_samples(tmp_path: Path, shard_images: int) -> None:
    data = [poem(1), poem(1, poem="another poem")]
    images = poems(tmp_path, data, {"1.jpg": 1}, shard_images=shard_images)
    rows = read_all(images, tmp_path / "catalog")
    assert [(row["key"], row["image"]) for row in rows] == [("1", picture(1))] * 2
    assert len({row["id"] for row in rows}) == 2
    warnings = catalog_all(images, tmp_path / "other")[1]
    assert ("1 keys are used more than once" in " ".join(warnings)) == (shard_images > 1)


def test_ids_do_not_move_when_images_or_poems_come(tmp_path: Path) -> None:
    images = poems(tmp_path, [poem(1), poem(2)], {"2.jpg": 2}, shard_images=1)
    before = {row["key"]: row["id"] for row in read_all(images, tmp_path / "one")}
    poems(tmp_path, [poem(0), poem(1), poem(2)], {"0.jpg": 0, "1.jpg": 1})
    after = {row["key"]: row["id"] for row in read_all(images, tmp_path / "two")}
    assert len(after) == 3 and before.items() < after.items()


def test_an_image_of_one_of_two_urls_is_refused(tmp_path: Path) -> None:
    data = [poem(1, "https://a.org/image.jpg"), poem(2, "https://b.org/image.jpg"), poem(3)]
    with pytest.raises(RecipeError, match=r"image\.jpg may be the image of 1 or of 2, .*\(1 such files\)"):
        discover(poems(tmp_path, data, {"image.jpg": 1, "photo3.jpg": 3}))
    # By ids it is clear, and what else lies there under that name is nobody's.
    (tmp_path / "images" / "image.jpg").unlink()
    (tmp_path / "images" / "photo3.jpg").unlink()
    rows = read_all(poems(tmp_path, data, {"2.jpg": 2}), tmp_path / "catalog")
    assert [row["key"] for row in rows] == ["2"]


def test_a_number_in_a_url_is_no_id(tmp_path: Path) -> None:
    data = [poem(1), poem(2, "https://example.org/1.jpg")]
    by_id = poems(tmp_path, data, {"1.jpg": 1})
    assert [row["key"] for row in read_all(by_id, tmp_path / "catalog")] == ["1"]
    with pytest.raises(RecipeError, match=r"images\.uri: 1\.jpg may be the image of 1 or of 2"):
        discover(poems(tmp_path, data, {"photo1.jpg": 1}))


@pytest.mark.parametrize("files", [{"1.jpg": 1, "1.png": 2}, {"a/photo1.jpg": 1, "b/photo1.jpg": 2}])
def test_two_files_for_a_poem_are_refused(tmp_path: Path, files: dict[str, int]) -> None:
    first, second = files
    with pytest.raises(RecipeError, match=rf"images\.uri: the image of 1 is in {first} and {second}"):
        discover(poems(tmp_path, [poem(1)], files))


def test_hostile_ids_and_urls(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(picture(9))
    data = [
        poem(0, "https://example.org/a%20b%2Fc.jpg"),
        poem(1, "https://example.org/sp%20ace.jpg"),
        poem(2, "http://[::bad/日本.jpg#fragment"),
        poem(3, "x/-rf ~;{0..9}*.jpg", id="\ud800"),
        poem(4, "https://example.org/..", id="../secret"),
        poem(5, image_url="", id=""),
        poem(6, "https://example.org/as%20is.jpg"),
    ]
    files = {"sp ace.jpg": 1, "日本.jpg": 2, "-rf ~;{0..9}*.jpg": 3, "as%20is.jpg": 6}
    rows = read_all(poems(tmp_path, data, files), tmp_path / "catalog")
    assert [(row["key"], row["image"]) for row in rows] == [
        ("1", picture(1)),
        ("2", picture(2)),
        ("?", picture(3)),
        ("6", picture(6)),
    ]


def test_an_empty_poem_is_no_caption(tmp_path: Path) -> None:
    images = poems(tmp_path, [poem(1, poem=" \n"), poem(2)], {"1.jpg": 1, "2.jpg": 2})
    assert [len(row["captions"]) for row in read_all(images, tmp_path / "catalog")] == [0, 1]


def test_a_poem_that_changes_matters_where_it_has_an_image(tmp_path: Path) -> None:
    images = poems(tmp_path, [poem(1), poem(2)], {"1.jpg": 1})
    tables, _ = catalog_all(images, tmp_path / "catalog")
    poems(tmp_path, [poem(1), poem(2, poem="another poem")], {})
    update = tables.update(discover(images)[0], images)
    assert (update.scanned, update.change) == (True, None)
    poems(tmp_path, [poem(1, poem="a changed poem"), poem(2)], {})
    assert tables.update(discover(images)[0], images).change


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "cannot be used"),
        ('[{"poem": ', "cannot be used"),
        ("[" * 100000, "cannot be used"),
        ({}, "is no file of poems: it needs a list of records"),
        ({"1": poem(1)}, "is no file of poems: it needs a list of records"),
        (["a poem"], "is no file of poems"),
        ([{"poem": "a", "id": 1}], "is no file of poems.*'image_url'"),
        ([poem(1, poem=None)], "is no file of poems"),
        ([poem(1, image_url=7)], "is no file of poems"),
        ([poem(1, id=None)], "is no file of poems.*the id None"),
    ],
)
def test_what_is_no_file_of_poems_is_refused(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"images\.annotations: .*multim_poem\.json {message}"):
        discover(poems(tmp_path, data, {"1.jpg": 1}))
