"""The table for open_clip's CsvDataset, read by CsvDataset itself."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.export import ExportSettings, export_run
from engine.export.tsv import title
from engine.schema import LEVELS
from tests.export.runs import Made, make_run, many, picture

data = pytest.importorskip("open_clip_train.data")


def load(table: Path) -> list[tuple[Image.Image, str]]:
    """All rows as CsvDataset gives them with open_clip's default options."""
    kept: list[str] = []

    def tokenize(texts: list[str]) -> torch.Tensor:
        kept.extend(texts)
        return torch.zeros(1, 1)

    dataset = data.CsvDataset(str(table), lambda image: image.copy(), "filepath", "title", "\t", tokenize)
    images = [dataset[i][0] for i in range(len(dataset))]
    return list(zip(images, kept, strict=True))


def test_csv_dataset_reads_files_where_they_lie(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(3))
    lines = list(export_run(run, str(tmp_path / "out"), ExportSettings("csv")))
    command = next(line for line in lines if "open_clip_train.main" in line)
    rows = load(Path(shlex.split(command)[-1]))
    assert len(rows) == 3 * len(LEVELS)
    assert rows[0][1] == "A hound near 000000000000"
    assert [text.split()[-1] for _, text in rows] == [f"{i:012d}" for i in range(3) for _ in LEVELS]
    assert not (tmp_path / "out" / "images").exists()


@pytest.mark.usefixtures("handmade_catalog")
def test_images_of_shards_become_files(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(5), source="webdataset")
    list(export_run(run, str(tmp_path / "out"), ExportSettings("csv", shard_images=2)))
    files = sorted(path for path in (tmp_path / "out" / "images").rglob("*") if path.is_file())
    assert [f"{file.parent.name}/{file.name}" for file in files] == [
        f"{i // 2:05d}/{i:012d}.jpg" for i in range(5)
    ]
    for file in (tmp_path / "images").iterdir():
        file.unlink()  # the export stands on its own
    rows = load(tmp_path / "out" / "captions.tsv")
    assert len(rows) == 25
    for image, text in rows:
        expected = tmp_path / "expected.jpg"
        expected.write_bytes(picture(int(text.split()[-1])))
        assert image.tobytes() == Image.open(expected).tobytes()


@pytest.mark.usefixtures("handmade_catalog")
def test_no_key_leads_out_of_the_target(tmp_path: Path) -> None:
    keys = ["../../../escaped", "/tmp/escaped", "..", "a\tb", "a\nb", "Same", "same", "SAME"]
    run = make_run(tmp_path, [Made(key, picture(i)) for i, key in enumerate(keys)], source="webdataset")
    before = set(tmp_path.rglob("*"))
    list(export_run(run, str(tmp_path / "out"), ExportSettings("csv")))
    written = [path for path in tmp_path.rglob("*") if path not in before]
    assert all(path.is_relative_to(tmp_path / "out") for path in written)
    images = {path for path in written if path.suffix == ".jpg"}
    assert len(images) == len(keys)
    assert {path.read_bytes() for path in images} == {picture(i) for i in range(len(keys))}
    assert len(load(tmp_path / "out" / "captions.tsv")) == len(keys) * len(LEVELS)


def test_hostile_captions_stay_one_row_each(tmp_path: Path) -> None:
    texts = {
        "synonym": "a\ttab and\r\ntwo lines",
        "broader": '"quoted" at both "ends"',
        "context": '=HYPERLINK("http://x")',
        "concept": "NA",
        "metaphor": '"',
    }
    run = make_run(tmp_path, [Made("a", picture(0), texts=texts), *many(1)])
    list(export_run(run, str(tmp_path / "out"), ExportSettings("csv")))
    read = [text for _, text in load(tmp_path / "out" / "captions.tsv")]
    assert read[:5] == ["a tab and two lines", *list(texts.values())[1:3], "NA ", '"']
    assert len(read) == 10


@pytest.mark.parametrize("missing", ["null", "NaN", "None", "\x00", "n/a"])
def test_what_pandas_takes_for_missing_is_text(tmp_path: Path, missing: str) -> None:
    table = tmp_path / "t.tsv"
    Image.new("RGB", (2, 2)).save(tmp_path / "i.png")
    table.write_text(f"filepath\ttitle\n{tmp_path}/i.png\t{title(missing)}\n")
    ((_, text),) = load(table)
    assert text.strip() == missing.replace("\x00", "")


def test_a_path_with_a_line_end_is_copied_and_a_missing_file_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(3))
    catalog = run.catalog / "shard-0.parquet"
    rows = catalog.read_table().to_pylist()
    odd = tmp_path / "images" / "odd\nname.jpg"
    Path(rows[0]["uri"]).rename(odd)
    Path(rows[1]["uri"]).unlink()
    rows[0]["uri"] = str(odd)
    catalog.write_table(type(catalog.read_table()).from_pylist(rows, schema=catalog.read_table().schema))
    lines = list(export_run(run, str(tmp_path / "out"), ExportSettings("csv")))
    assert len(load(tmp_path / "out" / "captions.tsv")) == 10
    assert any("1 images were copied" in line for line in lines)
    assert any("its image file is gone 1" in line for line in lines)
