"""The Hugging Face form, read back by `datasets` and pandas."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from engine.export import ExportSettings, export_run
from engine.schema import LEVELS
from tests.export.runs import Made, make_run, many, picture

HOSTILE = 'a\ttab, a "quote", | a pipe,\r\nand =HYPERLINK("http://x")'


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return datasets


def test_loads_as_a_directory_and_as_parquet(tmp_path: Path, datasets: Any) -> None:
    run = make_run(tmp_path, many(5))
    target = tmp_path / "out"
    list(export_run(run, str(target), ExportSettings("hf")))
    cache = str(tmp_path / "cache")
    by_card = datasets.load_dataset(str(target), split="train", cache_dir=cache)
    by_files = datasets.load_dataset("parquet", data_dir=str(target), split="train", cache_dir=cache)
    assert len(by_card) == 5 * 5
    assert by_card.to_list() == by_files.to_list()
    first = by_card[0]
    assert first["key"] == "000000000000"
    assert first["caption"] == "A hound near 000000000000"
    assert (first["element"], first["level"], first["distance"]) == ("dog", "synonym", 1)
    assert (first["association"], first["source"], first["attempts"]) == ("hound", "mined", 1)
    assert Path(first["uri"]).read_bytes()[first["offset"] :][: first["size"]] == picture(0)
    assert {(row["level"], row["distance"]) for row in by_card} == set(zip(LEVELS, range(1, 6), strict=True))


def test_original_captions_keep_their_extra_fields(tmp_path: Path, datasets: Any) -> None:
    made = [Made(HOSTILE, picture(0), captions=[HOSTILE, "  ", "two"], extra='{"licence": 4}')]
    run = make_run(tmp_path, made)
    lines = list(export_run(run, str(tmp_path / "out"), ExportSettings("hf", captions="both")))
    cache = str(tmp_path / "cache")
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=cache).to_list()
    originals = [row for row in rows if row["source"] == "original"]
    assert [row["caption"] for row in originals] == [HOSTILE, "two"]
    assert all(row["level"] is None and row["association"] is None for row in originals)
    assert {row["key"] for row in rows} == {HOSTILE}
    assert {row["extra"] for row in rows} == {'{"licence": 4}'}
    assert any("original 2" in line for line in lines)


def test_flagged_captions_are_left_out_unless_wanted(tmp_path: Path) -> None:
    made = [Made("a", picture(0), flags={"concept": "longer than 9 words"}), *many(1)]
    run = make_run(tmp_path, made)
    lines = list(export_run(run, str(tmp_path / "out"), ExportSettings("hf")))
    assert any("1 captions that failed a check (longer than 9 words 1)" in line for line in lines)
    table = pq.read_table(tmp_path / "out" / "data")
    assert (table.num_rows, table["flag"].null_count) == (9, 9)
    list(export_run(run, str(tmp_path / "out"), ExportSettings("hf", flagged=True)))
    flags = pq.read_table(tmp_path / "out" / "data")["flag"].to_pylist()
    assert flags.count("longer than 9 words") == 1 and len(flags) == 10


def test_shards_hold_every_row_once_and_in_order(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(7))
    list(export_run(run, str(tmp_path / "out"), ExportSettings("hf", shard_rows=8)))
    files = sorted((tmp_path / "out" / "data").iterdir())
    assert [file.name for file in files] == [f"train-{i:05d}-of-00005.parquet" for i in range(5)]
    tables = [pq.read_table(file) for file in files]
    assert [len(table) for table in tables] == [8, 8, 8, 8, 3]
    keys = [key for table in tables for key in table["key"].to_pylist()]
    assert keys == [f"{i:012d}" for i in range(7) for _ in LEVELS]


def test_draw_keeps_one_caption_an_image_by_seed(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(12))
    list(export_run(run, str(tmp_path / "out"), ExportSettings("hf", draw=True)))
    table = pq.read_table(tmp_path / "out" / "data")
    assert len(table) == len(set(table["id"].to_pylist())) == 12
    assert len(set(table["level"].to_pylist())) > 1


@pytest.mark.usefixtures("handmade_catalog")
def test_images_are_a_configuration_of_their_own(tmp_path: Path, datasets: Any) -> None:
    run = make_run(tmp_path, many(3))
    target, cache = str(tmp_path / "out"), str(tmp_path / "cache")
    list(export_run(run, target, ExportSettings("hf", images=True)))
    images = datasets.load_dataset(target, "images", split="train", cache_dir=cache)
    captions = datasets.load_dataset(target, split="train", cache_dir=cache)
    assert (len(images), len(captions)) == (3, 15)
    assert images[1]["image"].size == (24, 16)
    assert images[1]["image"].tobytes() == Image.open(io.BytesIO(picture(1))).tobytes()
    assert images[1]["id"] == captions[5]["id"]


def test_card_tells_models_counts_and_fingerprints(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(2))
    list(export_run(run, str(tmp_path / "out"), ExportSettings("hf")))
    text = (tmp_path / "out" / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert header["size_categories"] == ["n<1K"]
    assert "| metaphor | 5 | 2 |" in text
    assert "scripted" in text
    for directory in (tmp_path / "run" / "stages").iterdir():
        assert directory.name.split("-")[1] in text
    marker = json.loads((tmp_path / "out" / "_connote_export.json").read_text())
    assert marker["counts"]["captions"] == 10
    assert marker["settings"]["form"] == "hf"


def test_an_empty_export_still_loads(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(2), done=0)
    lines = list(export_run(run, str(tmp_path / "out"), ExportSettings("hf")))
    assert any("describe: not done yet 2" in line for line in lines)
    assert pq.read_table(tmp_path / "out" / "data").num_rows == 0
