"""The whole run over real photographs, over broken files, and with everything on an object store."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from engine.rundir import RunDirectory
from engine.storage import Location
from tests.flow import runs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

PHOTOGRAPHS = Path(__file__).parents[1] / "data"


def test_photographs_and_files_that_are_none(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    photographs = [path for path in PHOTOGRAPHS.iterdir() if path.suffix != ".md"]
    for path in photographs:
        (images / path.name).write_bytes(path.read_bytes())
    whole = (PHOTOGRAPHS / "cat.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "empty.png").write_bytes(b"")
    (images / "page.jpg").write_bytes(b"<html>not found</html>")
    sink = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(sink, "PNG")
    (images / "bomb.png").write_bytes(sink.getvalue())
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml",
        images,
        images={"source": "folder", "uri": str(images)},
        run={"part_rows": 4, "max_failed_share": 0.4},
    )
    runs.finish(recipe, out)
    described = runs.rows(out, "describe")
    assert len(described) == len(photographs) + 4
    failed = {key: row["error"] for key, row in described.items() if row["error"]}
    assert sorted(failed) == ["bomb", "cut", "empty", "page"], failed
    assert len(set(failed.values())) == 4, "each has a reason of its own"
    captioned = runs.rows(out, "caption")
    assert all(len(captioned[path.stem]["creative_captions"]) == 20 for path in photographs)


def test_source_and_run_on_an_object_store(
    tmp_path: Path, undisturbed: dict[str, bytes], images: Path, bucket: str
) -> None:
    for path in images.glob("*.tar"):
        (Location(bucket) / "images" / path.name).write_bytes(path.read_bytes())
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", Path("unused"))
    settings = ("--set", f"images.uri={bucket}/images")
    runs.finish(recipe, f"{bucket}/run", *settings)
    assert "60 done before, 0 to do" in runs.finish(recipe, f"{bucket}/run", *settings)
    run = RunDirectory.at(f"{bucket}/run")
    stored = {}
    for info in (run.root / "stages").entries(recursive=True):
        if info.base_name.startswith("part-"):
            name = "stages/" + info.path.split("/stages/")[1]
            stored[name] = (run.root / name).read_bytes()
    assert stored == undisturbed, "where data lies decides nothing"
    summary = run.read_summary()
    assert summary is not None and summary["complete"]


def test_a_shard_that_changed_is_named_and_computed_anew(tmp_path: Path) -> None:
    images, out = runs.write_tars(tmp_path / "images", samples=40), tmp_path / "out"
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
    runs.finish(recipe, out)
    before = runs.stamps(out)
    moved = runs.write_tars(tmp_path / "other", samples=20, first=500)
    os.replace(moved / "00500.tar", images / "00020.tar")
    text = runs.finish(recipe, out)
    assert "shard 00020.tar has changed" in text
    assert "40 samples in 8 parts, 20 done before, 20 to do" in text
    after = runs.stamps(out)
    kept = {name for name in before if name in after}
    assert len(kept) == len(before) // 2 and {name: after[name] for name in kept} == {
        n: before[n] for n in kept
    }
    assert len(after) == len(before), "tables of the old content are out of view"
    assert json.loads((out / "summary.json").read_text())["samples"] == 40
