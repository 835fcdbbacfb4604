from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.catalog import discover, scan
from engine.errors import RecipeError
from engine.recipe import Images
from tests.catalog.sets import catalog_all, picture, read_all


def parquet(uri: object, **more: Any) -> Images:
    return Images(source="parquet", uri=str(uri), **more)


def write(path: Path, rows: int = 20, **more: Any) -> Path:
    columns: dict[str, Any] = {
        "image": [picture(n) for n in range(rows)],
        "caption": [f"c{n}" for n in range(rows)],
    }
    pq.write_table(pa.table(columns), path, row_group_size=6, **more)
    return path


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_bytes_captions_keys_and_extra(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table(
        {
            "name": [f"k{n}" for n in range(20)],
            "image": pa.array([picture(n) for n in range(20)], kind),
            "texts": [[f"a{n}", "", f"b{n}"] for n in range(20)],
            "score": [math.nan, *(float(n) for n in range(1, 20))],
            "boxes": [[{"label": "cat", "id": n}] for n in range(20)],
            "embedding": [[0.1, 0.2]] * 20,
            "mask": [b"x"] * 20,
        }
    )
    (tmp_path / "set").mkdir()
    pq.write_table(table, tmp_path / "set" / "a.parquet", row_group_size=6)
    images = parquet(tmp_path / "set", caption_column="texts", key_column="name")
    rows = read_all(images, tmp_path / "catalog", part_rows=5)
    assert [row["image"] for row in rows] == [picture(n) for n in range(20)]
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(20)]
    assert rows[3]["captions"] == ["a3", "b3"]
    assert json.loads(rows[3]["extra"]) == {"score": 3.0, "boxes": [{"label": "cat", "id": 3}]}
    assert json.loads(rows[0]["extra"])["score"] is None
    assert [(row["offset"], row["size"]) for row in rows] == [(n, len(picture(n))) for n in range(20)]
    warnings = catalog_all(images, tmp_path / "catalog2")[1]
    assert [name in " ".join(warnings) for name in ("embedding", "mask")] == [True, True]


def test_a_set_with_five_captions_and_how_hard_each_is(tmp_path: Path) -> None:
    hardness = [["easy", "hard", "easy", "medium", "hard"][n:] + ["easy"] * n for n in range(3)]
    captions = [[f"caption {n} {k}" for k in range(5)] for n in range(3)]
    columns = {"image": [picture(n) for n in range(3)], "captions": captions, "difficulty": hardness}
    pq.write_table(pa.table(columns), tmp_path / "imp.parquet")
    images = parquet(tmp_path / "imp.parquet", caption_column="captions")
    rows = read_all(images, tmp_path / "catalog")
    assert [row["captions"] for row in rows] == captions
    assert [json.loads(row["extra"]) for row in rows] == [{"difficulty": each} for each in hardness]
    three = images.model_copy(update={"captions_each": 3})
    assert scan(discover(three)[0], three).table["captions"].to_pylist() == [each[:3] for each in captions]


def test_a_set_written_by_hugging_face(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(3)]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    made = datasets.Dataset.from_dict({"image": pictures, "text": ["a", "b", "c"]}, features=features)
    made.to_parquet(tmp_path / "a.parquet")
    rows = read_all(parquet(tmp_path, caption_column="text"), tmp_path / "catalog")
    assert [row["captions"] for row in rows] == [["a"], ["b"], ["c"]]
    assert [row["key"] for row in rows] == ["0", "1", "2"]
    assert [Image.open(io.BytesIO(row["image"])).getpixel((0, 0)) for row in rows] == [
        (n, 0, 0) for n in range(3)
    ]


def test_the_file_name_in_the_struct_survives(tmp_path: Path) -> None:
    images = [{"bytes": picture(0), "path": "cats/0.jpg"}, {"bytes": None, "path": "1.jpg"}, None]
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    rows = read_all(parquet(tmp_path), tmp_path / "catalog")
    assert json.loads(rows[0]["extra"]) == {"path": "cats/0.jpg"} and rows[0]["image"] == picture(0)
    assert [row["error"] for row in rows] == [None, "no image bytes in the row", "no image bytes in the row"]


@pytest.mark.parametrize("setting", ["image_column", "caption_column", "key_column"])
def test_a_missing_column_names_file_column_and_what_there_is(tmp_path: Path, setting: str) -> None:
    write(tmp_path / "a.parquet")
    images = parquet(tmp_path, **{setting: "jpeg"})
    with pytest.raises(
        RecipeError, match=rf"images\.{setting}: .*a\.parquet has no column 'jpeg'.*image, caption"
    ):
        scan(discover(images)[0], images)


@pytest.mark.parametrize("settings", [{"image_column": "caption"}, {"caption_column": "image"}])
def test_a_column_of_the_wrong_type(tmp_path: Path, settings: dict[str, str]) -> None:
    write(tmp_path / "a.parquet")
    images = parquet(tmp_path, **settings)
    with pytest.raises(RecipeError, match=f"images.{next(iter(settings))}: column"):
        scan(discover(images)[0], images)


def test_the_digest_is_of_the_values(tmp_path: Path) -> None:
    one = parquet(write(tmp_path / "a.parquet"))
    first = scan(discover(one)[0], one).digest
    write(tmp_path / "a.parquet", compression="zstd")
    assert scan(discover(one)[0], one).digest == first
    write(tmp_path / "a.parquet", rows=19)
    assert scan(discover(one)[0], one).digest != first


def test_a_file_cut_short_is_named_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    rows = read_all(parquet(path), tmp_path / "catalog")
    assert [(row["key"], row["image"]) for row in rows] == [("a.parquet", None)]
    assert "damaged or cut short" in rows[0]["error"]


def test_a_damaged_row_group_leaves_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    begin = column.data_page_offset
    data[begin : begin + 64] = b"\xff" * 64
    path.write_bytes(bytes(data))
    images = parquet(path, caption_column="caption")
    rows = read_all(images, tmp_path / "catalog")
    assert len(rows) == 20
    assert [n for n, row in enumerate(rows) if row["error"]] == list(range(6, 12))
    assert rows[19]["image"] == picture(19)
