"""What every form shares: what is left out, repeatability, and never touching anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import RecipeError, StorageError
from engine.export import ExportSettings, export_run
from engine.rundir import RunDirectory
from engine.schema import LEVELS
from engine.stages import build_stages
from tests.export.runs import Made, make_run, many, picture

pytestmark = pytest.mark.usefixtures("handmade_catalog")
FORMS = ("hf", "open_clip", "webdataset", "csv")


def export(run: RunDirectory, target: Path, form: str = "hf", **settings: object) -> list[str]:
    return list(export_run(run, str(target), ExportSettings(form, **settings)))  # type: ignore[arg-type]


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.mark.parametrize("form", FORMS)
def test_exporting_again_gives_equal_bytes(tmp_path: Path, form: str) -> None:
    run = make_run(tmp_path, many(5), source="webdataset")
    first_lines = export(run, tmp_path / "out", form)
    first = contents(tmp_path / "out")
    next(path for path in (tmp_path / "out").rglob("*") if path.suffix not in ("", ".json")).write_bytes(
        b"damaged"
    )
    assert export(run, tmp_path / "out", form) == first_lines
    assert contents(tmp_path / "out") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "run"]


def test_another_form_replaces_the_export(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(3))
    export(run, tmp_path / "out", "hf")
    export(run, tmp_path / "out", "webdataset")
    assert sorted(contents(tmp_path / "out")) == ["00000.tar", "_connote_export.json"]


def test_reasons_are_those_of_the_stage_that_failed(tmp_path: Path) -> None:
    made = [
        Made("a", b"", catalog_error="zero bytes"),
        Made("b", picture(1), describe_error="not an image"),
        Made("c", picture(2), caption_error="no association to write a caption for"),
        Made(
            "d",
            picture(3),
            flags=dict.fromkeys(LEVELS, "x"),
        ),
        *many(2),
    ]
    run = make_run(tmp_path, made, done=2)
    lines = export(run, tmp_path / "out")
    left_out = json.loads((tmp_path / "out" / "_connote_export.json").read_text())["counts"]["left_out"]
    assert left_out == {
        "catalog: zero bytes": 1,
        "describe: not an image": 1,
        "caption: no association to write a caption for": 1,
        "every caption failed a check": 1,
        "describe: not done yet": 2,
    }
    assert any("6 images without captions" in line for line in lines)


def test_originals_survive_where_only_mining_failed(tmp_path: Path) -> None:
    made = [
        Made("a", picture(0), describe_error="truncated"),
        Made("b", picture(1), caption_error="no association to write a caption for"),
        Made("c", picture(2), captions=[]),
    ]
    run = make_run(tmp_path, made)
    export(run, tmp_path / "out", "webdataset", captions="original")
    counts = json.loads((tmp_path / "out" / "_connote_export.json").read_text())["counts"]
    assert (counts["images"], counts["captions"]) == (1, 1)
    assert counts["left_out"] == {"describe: truncated": 1, "no caption in the source": 1}


def test_a_foreign_directory_is_refused_and_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(RecipeError, match=r"out: holds files but no earlier export"):
        export(run, tmp_path / "out")
    assert contents(tmp_path / "out") == {"thesis.tex": b"mine"}
    with pytest.raises(RecipeError, match="no earlier export"):
        export(run, tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="is a file"):
        export(run, tmp_path / "file")


def test_a_file_added_to_an_export_is_not_lost(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(1))
    export(run, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError, match=r"also notes\.txt"):
        export(run, tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_an_empty_directory_may_be_the_target(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(1))
    (tmp_path / "out").mkdir()
    export(run, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_failure_keeps_the_earlier_export(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, many(5))
    export(run, tmp_path / "out", form)
    before = contents(tmp_path / "out")
    table = next((tmp_path / "run" / "stages").glob("caption-*")) / "part-000002.parquet"
    table.write_bytes(b"not parquet")
    with pytest.raises(StorageError, match="part-000002"):
        export(run, tmp_path / "out", form)
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "run"]


def test_a_full_disk_is_told_with_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, many(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.export.tars.tarfile.TarFile.addfile", full)
    with pytest.raises(StorageError, match=r"out: cannot be written .*No space left"):
        export(run, tmp_path / "out", "webdataset")
    assert not (tmp_path / "out").exists()


def test_tables_of_another_catalog_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(4))
    catalog = run.catalog / "shard-0.parquet"
    catalog.write_table(catalog.read_table().take([1, 0, 2, 3]))
    with pytest.raises(StorageError, match=r"part-000000\.parquet: holds other samples"):
        export(run, tmp_path / "out")


def test_a_run_without_captions_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(2))
    run.write_recipe(run.read_recipe().model_copy(update={"caption": None}))
    with pytest.raises(RecipeError, match="no section caption"):
        export(run, tmp_path / "out")
    assert "2 captions of 2 images" in export(run, tmp_path / "out", captions="original")[1]


def test_no_run_directory_and_no_plan(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no run directory"):
        export(RunDirectory.at(str(tmp_path / "nothing")), tmp_path / "out")
    run = make_run(tmp_path, many(1))
    Path((run.root / "plan.parquet").uri).unlink()
    with pytest.raises(StorageError, match="no plan yet"):
        export(run, tmp_path / "out")


def test_exports_where_the_model_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, many(2))
    stages = {s.name: {"fingerprint": s.fingerprint} for s in build_stages(run.read_recipe())}

    def gone(_: object) -> None:
        raise RecipeError("model /models/seer: no such directory")

    monkeypatch.setattr("engine.export.mined.build_stages", gone)
    with pytest.raises(RecipeError, match="no such directory"):
        export(run, tmp_path / "out")
    run.write_summary({"stages": stages})
    assert "10 captions" in export(run, tmp_path / "out")[1]


def test_settings_and_targets_that_make_no_sense(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(1))
    with pytest.raises(RecipeError, match="--to json: choose one of hf"):
        ExportSettings("json")
    with pytest.raises(RecipeError, match="--captions all"):
        ExportSettings("hf", captions="all")
    with pytest.raises(RecipeError, match="local directories"):
        list(export_run(run, "s3:/bucket/out", ExportSettings("hf")))
