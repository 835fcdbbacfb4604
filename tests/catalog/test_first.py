"""One file that stands for a source, of shards that are one file and of those that are many."""

from __future__ import annotations

from pathlib import Path

from engine.catalog import discover, first_file, first_planned, plan_parts
from engine.recipe import Images
from engine.schema import PLAN
from engine.storage import Location
from tests.catalog.sets import catalog_all, entries, picture, tar_bytes, webdataset


def planned(images: Images, run: Path) -> Location | None:
    tables, _ = catalog_all(images, run)
    headers = tables.get_all(discover(images)).values()
    return first_planned(tables.directory, plan_parts(tables.directory, headers, 4, 2**20))


def test_a_tar(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar"):
        (tmp_path / name).write_bytes(tar_bytes(entries(2)))
    images = webdataset(tmp_path)
    first = Location(str(tmp_path / "a.tar"))
    assert first_file(discover(images)[0]) == first == planned(images, tmp_path / "catalog")


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "tree" / "a").mkdir(parents=True)
    for n in range(3):
        (tmp_path / "tree" / "a" / f"{n}.jpg").write_bytes(picture(n))
    images = Images(source="folder", uri=str(tmp_path / "tree"))
    first = Location(f"{tmp_path}/tree/a/0.jpg")
    assert first_file(discover(images)[0]) == first == planned(images, tmp_path / "catalog")


def test_a_table_whose_first_file_is_missing_and_whose_second_lies_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.jpg").write_bytes(picture(0))
    table = tmp_path / "table" / "captions.tsv"
    table.parent.mkdir()
    table.write_text(f"filepath\ttitle\ngone.jpg\tone\n{tmp_path}/elsewhere.jpg\ttwo\n")
    images = Images(source="tsv", uri=str(table))
    assert first_file(discover(images)[0]) == Location(f"{tmp_path}/elsewhere.jpg")


def test_no_sample(tmp_path: Path) -> None:
    assert first_planned(Location(str(tmp_path)), PLAN.empty_table()) is None
