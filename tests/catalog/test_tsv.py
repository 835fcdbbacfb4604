from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from engine.catalog import discover, scan
from engine.errors import RecipeError, StorageError
from engine.export import ExportSettings, export_run
from engine.recipe import Images, parse_recipe
from engine.rundir import RunDirectory
from engine.storage import locate
from tests.catalog.captioned import ROWS, pictures, table, tsv
from tests.catalog.sets import catalog_all, picture, read_all
from tests.export.runs import make_run, many, mine_by_hand


def warnings_of(images: Images, run: Path) -> list[str]:
    return catalog_all(images, run)[1]


@pytest.mark.parametrize("name", ["train.tsv", "train.csv", "TRAIN.TSV"])
def test_rows_of_a_file_are_its_captions_in_order(tmp_path: Path, name: str) -> None:
    pictures(tmp_path / "images")
    path = table(tmp_path / name.lower(), ROWS).rename(tmp_path / name)
    images = tsv(path)
    assert [shard.name for shard in discover(images)] == [f"{name}/000000"]
    rows = read_all(images, tmp_path / "catalog")
    assert [row["key"] for row in rows] == ["images/1", "images/0"]
    assert [row["image"] for row in rows] == [picture(1), picture(0)]
    assert [row["captions"] for row in rows] == [["a cat", "a cat on a mat"], ["a dog"]]
    # Where the rows of an image differ, all their values are kept.
    assert [json.loads(row["extra"]) for row in rows] == [{"license": ["7", "9"]}, {"license": "8"}]
    assert warnings_of(images, tmp_path / "other") == []


def test_columns_of_other_names(tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    path = table(tmp_path / "t.csv", ROWS, ("image", "text", "number"))
    images = tsv(path, image_column="image", caption_column="text", key_column="number")
    rows = read_all(images, tmp_path / "catalog")
    assert [(row["key"], row["captions"], row["extra"]) for row in rows] == [
        ("7", ["a cat", "a cat on a mat"], None),
        ("8", ["a dog"], None),
    ]
    # Without captions, what would be one is a field like any other.
    rows = read_all(tsv(path, image_column="image", caption_column=None), tmp_path / "without")
    assert [row["captions"] for row in rows] == [[], []]
    assert json.loads(rows[1]["extra"]) == {"text": "a dog", "number": "8"}


def test_the_names_of_open_clip_are_the_defaults_of_this_source() -> None:
    assert (tsv("x").image_column, tsv("x").caption_column) == ("filepath", "title")
    assert Images(source="parquet", uri="x").image_column == "image"
    recipe = parse_recipe("images: {source: tsv, uri: a.tsv}\nembed: {encoders: ['hf:x']}")
    assert Images.model_validate(recipe.images.model_dump()) == recipe.images


def test_files_anywhere(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "images")
    pictures(tmp_path / "elsewhere", 5)
    here = tmp_path / "set" / "images"
    rows = [
        (tmp_path / "elsewhere" / "4.jpg", "absolute"),
        ("./images//0.jpg", "relative"),
        (here / "0.jpg", "the same file"),
        (f"file://{here}/1.jpg", "with a scheme"),
        ("../elsewhere/3.jpg", "above"),
    ]
    path = table(tmp_path / "set" / "t.tsv", rows, ("filepath", "title"))
    found = read_all(tsv(path), tmp_path / "catalog")
    other = tmp_path / "elsewhere"
    assert [row["key"] for row in found] == [f"{other}/4", "images/0", "images/1", f"{other}/3"]
    assert [row["image"] for row in found] == [picture(4), picture(0), picture(1), picture(3)]
    assert found[1]["captions"] == ["relative", "the same file"]
    assert [Path(row["uri"]) for row in found[:2]] == [other / "4.jpg", here / "0.jpg"]


def test_what_is_no_image_file_is_an_error_row(tmp_path: Path, made: Path) -> None:
    names = [
        "gone.jpg",
        "images",
        "",
        "a\0b.jpg",
        "x" * 5000,
        "../" * 40 + "etc/none",
        "images/2.jpg/x",
        "é\ud800",
    ]
    (made.parent / "images" / "empty.jpg").touch()
    rows = [(name.encode("utf-8", "replace").decode(), "t") for name in [*names, "images/empty.jpg"]]
    path = table(made, [*rows, ("images/2.jpg", "good"), ("", "another")], ("filepath", "title"))
    found = read_all(tsv(path), tmp_path / "catalog")
    missing = "image file is missing"
    assert [row["error"] for row in found] == [
        *(missing if name else "the row names no image file" for name in names),
        "zero bytes",
        None,
        "the row names no image file",
    ]
    assert found[-2]["image"] == picture(2) and all(row["captions"] for row in found)
    assert len({row["id"] for row in found}) == len(found)
    assert len(read_all(tsv(path, digest="index"), tmp_path / "index")) == len(found)


def test_quotes_line_ends_and_marks_as_pandas_reads_them(tmp_path: Path, made: Path) -> None:
    import pandas as pd

    text = (
        '\ufefffilepath\t"title"\r\n'
        'images/0.jpg\t"two\nlines, and ""quotes"""\r\n'
        "\r\n"
        'images/1.jpg\tsay "no"\tx\r\n'
        'images/2.jpg\t"a\ttab"'
    )
    made.write_bytes(text.encode())
    rows = read_all(tsv(made), tmp_path / "catalog")
    wanted = ['two\nlines, and "quotes"', 'say "no"', "a\ttab"]
    assert [row["captions"] for row in rows] == [[caption] for caption in wanted]
    assert [row["image"] for row in rows] == [picture(n) for n in range(3)]
    plain = io.StringIO(text.replace("\tx\r", "\r").removeprefix("\ufeff"), newline="")
    assert pd.read_csv(plain, sep="\t")["title"].tolist() == wanted
    (warning,) = warnings_of(tsv(made), tmp_path / "other")
    assert "train.tsv/000000: rows have more fields than the first line has names (1 times" in warning


def test_odd_rows_are_kept_and_told_of(tmp_path: Path, made: Path) -> None:
    made.write_bytes(
        b"filepath\ttitle\tn\n"
        b"images/0.jpg\n"  # no title
        b"images/1.jpg\tcaf\xe9 \x00!\t1\n"  # Latin-1
        b"images/2.jpg\tmore\rlines\t1\n"
        b"images/2.jpg\tmore\rlines\t1\n"  # twice
        b"images/2.jpg\tmore\rlines\t2\n"
        b"images/2.jpg\t \t1\n"
    )
    rows = read_all(tsv(made), tmp_path / "catalog")
    assert [row["captions"] for row in rows] == [[], ["caf\ufffd \x00!"], ["more lines"] * 2]
    assert json.loads(rows[2]["extra"]) == {"n": ["1", "2", "1"]} and rows[0]["extra"] is None
    warnings = warnings_of(tsv(made), tmp_path / "other")
    for part in (
        "fewer fields",
        "not UTF-8",
        "are repeated, and taken once (1 times, the first is 'images/2.jpg')",
    ):
        assert sum(part in warning for warning in warnings) == 1, part
    assert len(warnings) == 3


def test_columns_of_the_same_name_are_told_apart(tmp_path: Path, made: Path) -> None:
    path = table(made, [("images/0.jpg", "t", "1", "2", "")], ("filepath", "title", "a", "a", ""))
    (row,) = read_all(tsv(path), tmp_path / "catalog")
    assert json.loads(row["extra"]) == {"a": "1", "a.1": "2", "": ""}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"images\.uri: .*train\.tsv is empty; its first line must name the columns"),
        (b"\n\r\n\n", "is empty"),
        (
            b"images/0.jpg\ta cat\n",
            r"images\.image_column: .* one column 'filepath', and names 'images/0\.jpg', 'a",
        ),
        (b"filepath,title\nimages/0.jpg,x\n", r"names 'filepath,title' \(\.tsv is split at tabs"),
        (b"filepath\tcaption\nimages/0.jpg\tx\n", r"images\.caption_column: .* one column 'title'"),
        (
            b"filepath\ttitle\ttitle\n",
            r"images\.caption_column: .* one column 'title', and names 'filepath', 't",
        ),
        ("filepath\ttitle\n".encode("utf-16"), r"images\.image_column: .*\\x00"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), r"images\.image_column"),
        (b"filepath\ttitle\n", r"images\.uri: no rows of tables \(\.tsv, \.csv\) at"),
        (
            b'filepath\ttitle\na.jpg\tx\nb.jpg\t"y\nc.jpg\tz\n',
            r"what begins in line 3 is no row .*quotes within",
        ),
        (
            b'filepath\ttitle\na.jpg\t"' + b"y\n" * 70000,
            r"what begins in line 2 is no row of a table \(field larger",
        ),
        (
            b"filepath\ttitle\nhttp://x.org/a.jpg\ty\n",
            r"names http://x\.org/a\.jpg in line 2; .*download them",
        ),
    ],
)
def test_what_is_no_table_is_refused(made: Path, data: bytes, message: str) -> None:
    made.write_bytes(data)
    with pytest.raises(RecipeError, match=message):
        discover(tsv(made))


def test_other_names_and_missing_tables_are_refused(tmp_path: Path, made: Path) -> None:
    shutil.copy(made, made.with_name("train.txt"))
    with pytest.raises(RecipeError, match=r"train\.txt: is it separated by tabs or by commas\?"):
        discover(tsv(made.with_name("train.txt")))
    with pytest.raises(RecipeError, match=r"none\.tsv does not exist"):
        discover(tsv(made.with_name("none.tsv")))
    with pytest.raises(RecipeError, match="no rows of tables"):
        discover(tsv(made.parent / "images"))


def test_several_tables(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        pictures(tmp_path / "set" / folder / "images")
        for name in ("train.tsv", "train.csv", "empty.tsv"):
            table(tmp_path / "set" / folder / name, ROWS if name != "empty.tsv" else [])
    names = ["a/train.csv/000000", "a/train.tsv/000000", "b/train.csv/000000", "b/train.tsv/000000"]
    assert [shard.name for shard in discover(tsv(tmp_path / "set"))] == names
    rows = read_all(tsv(tmp_path / "set"), tmp_path / "catalog")
    assert len(rows) == 8 and len({row["id"] for row in rows}) == 8
    assert {row["key"] for row in rows} == {f"{folder}/images/{n}" for folder in "ab" for n in range(2)}
    both = Images(source="tsv", uri=tuple(f"{tmp_path}/set/{folder}/train.tsv" for folder in "ab"))
    assert [shard.name for shard in discover(both)] == ["b/train.tsv/000000", "train.tsv/000000"]
    assert len({row["id"] for row in read_all(both, tmp_path / "both")}) == 4
    # A run within the set has tables of its own.
    run = RunDirectory.at(str(tmp_path / "set" / "run"))
    table(tmp_path / "set" / "run" / "models" / "metrics.csv", [(1, 2)], ("step", "loss"))
    assert len(discover(tsv(tmp_path / "set"), run.root)) == 4
    with pytest.raises(RecipeError, match=r"metrics\.csv"):
        discover(tsv(tmp_path / "set"))


def test_rows_that_are_appended_leave_earlier_shards_alone(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 6)
    rows = [(f"images/{n}.jpg", f"caption {n}", "x") for n in range(4)]
    images = tsv(table(tmp_path / "t.tsv", rows), shard_images=2)
    tables, _ = catalog_all(images, tmp_path / "catalog")
    table(tmp_path / "t.tsv", [*rows, ("images/5.jpg", "new", "x"), ("images/3.jpg", "another", "x")])
    updates = [tables.update(shard, images) for shard in discover(images)]
    assert [update.scanned for update in updates] == [False, True, True]
    assert [bool(update.change) for update in updates] == [False, True, False]
    # A column of another name changes what every row means.
    table(tmp_path / "t.tsv", rows, ("filepath", "title", "licence"))
    assert all(tables.update(shard, images).change for shard in discover(images))
    # And an image that changed is read anew, alone.
    tables, _ = catalog_all(images, tmp_path / "other")
    (tmp_path / "images" / "0.jpg").write_bytes(picture(9))
    updates = [tables.update(shard, images) for shard in discover(images)]
    assert [bool(update.change) for update in updates] == [True, False]


def test_moving_a_set_changes_no_id(tmp_path: Path, made: Path) -> None:
    before = scan(discover(tsv(made))[0], tsv(made))
    shutil.move(made.parent, tmp_path / "moved")
    moved = tsv(tmp_path / "moved" / "train.tsv")
    after = scan(discover(moved)[0], moved)
    assert after.digest == before.digest
    for column in ("id", "key", "captions", "extra"):
        assert after.table[column] == before.table[column]


def test_a_table_that_changes_between_listing_and_scan(tmp_path: Path, made: Path) -> None:
    (shard,) = discover(tsv(made))
    table(made, list(reversed(ROWS)))
    with pytest.raises(RecipeError, match=r"train\.tsv has changed meanwhile; run again"):
        scan(shard, tsv(made))
    made.write_bytes(b"filepath\ttitle\n")
    with pytest.raises(RecipeError, match="has changed meanwhile"):
        scan(shard, tsv(made))
    made.unlink()
    with pytest.raises(StorageError, match=r"train\.tsv: does not exist"):
        scan(shard, tsv(made))


def test_captions_of_a_shuffled_table_find_their_images(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 9)
    rows = [(f"images/{n}.jpg", f"caption {n} {k}", f"{k}") for k in range(5) for n in range(9)]
    images = tsv(table(tmp_path / "t.tsv", rows), shard_images=4)
    found = read_all(images, tmp_path / "catalog")
    assert [row["key"] for row in found] == [f"images/{n}" for n in range(9)]
    assert [row["captions"] for row in found] == [[f"caption {n} {k}" for k in range(5)] for n in range(9)]
    assert {row["extra"] for row in found} == {'{"license": ["0", "1", "2", "3", "4"]}'}


def test_what_export_writes_comes_back(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(5))
    list(export_run(run, str(tmp_path / "out"), ExportSettings("csv", captions="both")))
    rows = read_all(tsv(tmp_path / "out" / "captions.tsv"), tmp_path / "catalog")
    assert [row["uri"] for row in rows] == [str(tmp_path / "images" / f"file-{n}.bin") for n in range(5)]
    assert [row["image"] for row in rows] == [Path(row["uri"]).read_bytes() for row in rows]
    assert [len(row["captions"]) for row in rows] == [6] * 5
    assert rows[2]["captions"][:2] == ["A dog walks.", "A hound near 000000000002"]


def test_a_table_may_be_mined_and_exported_again(tmp_path: Path, made: Path) -> None:
    recipe = parse_recipe(
        f"images: {{source: tsv, uri: {made}}}\ngenerators: {{words: {{backend: scripted}}}}\n"
        "describe: {generator: words}\nassociate: {generator: words}\ncaption: {generator: words}"
    )
    run = RunDirectory.at(str(tmp_path / "run"))
    mine_by_hand(run, recipe)
    list(export_run(run, str(tmp_path / "out"), ExportSettings("csv", captions="original")))
    rows = read_all(tsv(tmp_path / "out" / "captions.tsv"), tmp_path / "catalog")
    assert [row["captions"] for row in rows] == [["a cat", "a cat on a mat"], ["a dog"]]
    assert [row["image"] for row in rows] == [picture(1), picture(0)]


def test_tables_and_images_of_an_object_store(bucket: str, tmp_path: Path) -> None:
    for n in range(20):
        (locate(bucket) / f"set/images/{n}.jpg").write_bytes(picture(n))
    (locate(bucket) / "other/0.jpg").write_bytes(picture(20))
    local = tmp_path / "here.jpg"
    local.write_bytes(picture(21))
    names = [
        *(f"images/{n}.jpg" for n in range(20)),
        f"{bucket}/other/0.jpg",
        "../other/0.jpg",
        str(local),
        "no.jpg",
    ]
    text = "filepath\ttitle\n" + "".join(f"{name}\tcaption {n}\n" for n, name in enumerate(names))
    (locate(bucket) / "set/t.tsv").write_bytes(text.encode())
    rows = read_all(tsv(f"{bucket}/set/t.tsv"), tmp_path / "catalog")
    assert [row["image"] for row in rows] == [*(picture(n) for n in range(22)), None]
    assert rows[20]["captions"] == ["caption 20", "caption 21"]
    assert rows[22]["error"] == "image file is missing"
    assert [row["key"] for row in rows[19:]] == ["images/19", f"{bucket}/other/0", str(local)[:-4], "no"]
