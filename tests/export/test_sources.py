"""Exports of runs over real sources, cataloged as a run catalogs them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from engine.export import ExportSettings, export_run
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from tests.export.runs import mine_by_hand, picture, recipe_of

KEYS = [f"shot-{i}" for i in range(5)]


def write_tar(images: Path) -> Recipe:
    with tarfile.open(images / "a.tar", "w") as tar:
        for i, key in enumerate(KEYS):
            for ending, data in (("jpg", picture(i)), ("txt", f"text {key}".encode())):
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return recipe_of(images, "webdataset")


def write_parquet(images: Path) -> Recipe:
    rows = [
        {"image": {"bytes": picture(i), "path": None}, "caption": f"text {k}", "key": k}
        for i, k in enumerate(KEYS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), images / "a.parquet")
    recipe = recipe_of(images, "parquet")
    columns = {"caption_column": "caption", "key_column": "key"}
    return recipe.model_copy(update={"images": recipe.images.model_copy(update=columns)})


def write_folder(images: Path) -> Recipe:
    for i, key in enumerate(KEYS):
        (images / f"{key}.jpg").write_bytes(picture(i))
        (images / f"{key}.txt").write_text(f"text {key}")
    return recipe_of(images, "folder")


@pytest.mark.parametrize("write", [write_tar, write_parquet, write_folder])
def test_images_captions_and_keys_arrive(tmp_path: Path, write: object) -> None:
    (tmp_path / "images").mkdir()
    recipe = write(tmp_path / "images")  # type: ignore[operator]
    run = RunDirectory.at(str(tmp_path / "run"))
    mine_by_hand(run, recipe)
    out = tmp_path / "out"
    list(export_run(run, str(out), ExportSettings("webdataset", captions="original")))
    samples = list(webdataset.WebDataset(str(out / "00000.tar"), shardshuffle=False))
    assert [sample["txt"].decode() for sample in samples] == [f"text {key}" for key in KEYS]
    assert [sample["jpg"] for sample in samples] == [picture(i) for i in range(5)]
    list(export_run(run, str(out), ExportSettings("csv", captions="both")))
    rows = [line.split("\t") for line in (out / "captions.tsv").read_text().splitlines()[1:]]
    assert len(rows) == 5 * (1 + 5)
    for path, title in rows:
        number = next(i for i, key in enumerate(KEYS) if key in title)
        assert Path(path).read_bytes() == picture(number)
    assert (out / "images").exists() == (recipe.images.source != "folder")
