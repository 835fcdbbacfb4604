"""One run after another on the same directory: reuse, retry, growth, refusal."""

from __future__ import annotations

import io
import json
import shutil
import signal
import tarfile
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.flow import runs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def copied(finished: Path, out: Path) -> Path:
    """A finished run in a directory of the test's own."""
    return Path(shutil.copytree(finished, out))


def test_every_sample_is_there_once(images: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    keys = []
    for name, data in undisturbed.items():
        if "/caption-" in name:
            path = tmp_path / "table.parquet"
            path.write_bytes(data)
            keys += pq.read_table(path)["key"].to_pylist()
    assert sorted(keys) == [f"{index:05d}" for index in range(runs.SAMPLES)]


def test_a_finished_run_does_nothing_again(images: Path, tmp_path: Path, copied: Path) -> None:
    before = runs.stamps(copied)
    assert len(before) == 3 * runs.PARTS
    said = runs.finish(runs.write_recipe(tmp_path / "recipe.yaml", images), copied)
    assert "60 done before, 0 to do" in said
    assert runs.stamps(copied) == before


def test_another_caption_prompt_redoes_captions_only(images: Path, tmp_path: Path, copied: Path) -> None:
    before = runs.stamps(copied)
    prompt = tmp_path / "caption.txt"
    prompt.write_text("--- user ---\n$image write of $association")
    changed = {"generator": "poet", "prompt": str(prompt)}
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images, caption=changed)
    runs.finish(recipe, copied)
    after = runs.stamps(copied)
    assert {name: after[name] for name in before} == before
    new = after.keys() - before.keys()
    assert len(new) == runs.PARTS and all("/caption-" in name for name in new)


def test_new_shards_are_computed_alone(tmp_path: Path, out: Path) -> None:
    images = runs.write_tars(tmp_path / "images", samples=20)
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
    runs.finish(recipe, out)
    before = runs.stamps(out)
    runs.write_tars(images, samples=20, first=20)
    text = runs.finish(recipe, out)
    assert "40 samples in 8 parts, 20 done before, 20 to do" in text
    after = runs.stamps(out)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * len(before)


def test_stage_directories_open_as_they_are(finished: Path) -> None:
    directory = next(finished.glob("stages/caption-*"))
    table = ds.dataset(directory, format="parquet").to_table()
    assert len(table) == runs.SAMPLES
    captions = [c for row in table["creative_captions"].to_pylist() if row for c in row]
    assert len(captions) == 20 * (runs.SAMPLES - 3)


def test_failures_are_rows_counted_and_retried(tmp_path: Path, out: Path) -> None:
    images = runs.write_tars(tmp_path / "images", samples=20)
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml", images, run={"part_rows": 6, "max_failed_share": 0.2}
    )
    runs.finish(recipe, out)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["failed_samples"] == 1 and summary["complete"]
    assert sum(summary["stages"]["describe"]["failed"].values()) == 1
    assert summary["stages"]["caption"]["failed"] == {"skipped: associate failed": 1}
    before = runs.stamps(out)
    text = runs.finish(recipe, out, "--retry-failed")
    assert "14 done before, 6 to do" in text
    after = runs.stamps(out)
    changed = {name for name in before if before[name] != after[name]}
    assert len(changed) == 3, "one part of each stage holds the failed row"
    runs.finish(recipe, out, "--set", "run.max_failed_share=0.01", status=1)


@pytest.mark.parametrize(("script", "stage"), [("answer", "describe"), ("answer_late", "caption")])
def test_a_dead_engine_is_replaced_and_a_deadly_sample_found(
    tmp_path: Path, out: Path, script: str, stage: str
) -> None:
    images = runs.write_tars(tmp_path / "images", samples=20)
    deadly = {"backend": "scripted", "cpus": 0.5, "script": f"tests.flow.deadly:{script}"}
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml",
        images,
        generators={"seer": deadly},
        associate={"generator": "seer"},
        caption={"generator": "seer"},
        run={"part_rows": 10, "max_failed_share": 0.5},
    )
    runs.finish(recipe, out)
    summary = json.loads((out / "summary.json").read_text())
    failed = dict(summary["stages"][stage]["failed"])
    # The broken image of the shard fails, too; nobody else does.
    assert failed.pop("the engine died on this sample: killed by sample 7") == 1
    assert summary["complete"] and summary["failed_samples"] == 2 and sum(failed.values()) == 1

    before = runs.tables(out)
    runs.finish(recipe, out, "--retry-failed")
    assert runs.tables(out).keys() == before.keys(), "asking again for what kills costs no table"
    again = json.loads((out / "summary.json").read_text())
    assert again["stages"] == summary["stages"]


def test_a_recipe_without_a_place_is_refused(images: Path, tmp_path: Path) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
    text = runs.finish_alone(
        recipe, tmp_path / "out", "--set", "run.out=", "--set", "describe.nonsense=1", status=2
    )
    assert "describe.nonsense: unknown key" in text


def test_an_outage_stops_the_run_and_blames_no_part(images: Path, tmp_path: Path, out: Path) -> None:
    rows = 2  # so few that a row by itself is soon under suspicion
    healthy = {"backend": "scripted", "cpus": 0.5}
    dead = {
        "backend": "openai",
        "model": "m",
        "base_url": "http://127.0.0.1:9/v1",
        "attempts": 1,
        "cpus": 0.5,
    }
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml",
        images,
        generators={"seer": healthy, "poet": dead},
        run={"part_rows": rows, "max_failed_share": 0.2},
    )
    text = runs.finish(recipe, out, status=3)
    assert "generators.poet: the engine died 3 times before it answered anything" in text
    assert "127.0.0.1:9" in text
    kept = runs.stamps(out)
    captions = [path for path in out.glob("stages/caption-*/part-*") if rows_asked(path)]
    assert kept and not captions, "what the other pool made is kept, and nothing is given up"

    runs.write_recipe(recipe, images, run={"part_rows": rows, "max_failed_share": 0.2})
    runs.finish(recipe, out)
    after = runs.stamps(out)
    assert {name: after[name] for name in kept} == kept
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] and summary["failed_samples"] == 3, "the broken images alone"


def rows_asked(path: Path) -> int:
    """Rows of a caption table that are not skipped for their broken image."""
    return sum("skipped" not in (error or "") for error in pq.read_table(path)["error"].to_pylist())


def test_a_part_of_long_texts_stays_one_part(tmp_path: Path, out: Path) -> None:
    """More than Ray's limit of a block, in texts that part_bytes does not count."""
    images = runs.write_tars(tmp_path / "images", samples=20)
    with tarfile.open(images / "00000.tar", "a") as tar:
        for index in range(100, 230):
            for name, content in ((f"{index:05d}.png", b"no image"), (f"{index:05d}.meta", b"x" * 2**20)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml", images, run={"part_rows": 256, "max_failed_share": 1.0}
    )
    runs.finish(recipe, out)
    assert json.loads((out / "summary.json").read_text())["stages"]["caption"]["done"] == 150
    assert sum(len(pq.read_table(path)) for path in out.glob("stages/caption-*/part-*")) == 150


def test_parts_of_another_size_leave_no_sample_twice(images: Path, tmp_path: Path, copied: Path) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
    text = runs.finish(recipe, copied, "--set", "run.part_rows=10")
    assert "caption: 12 tables of parts that are not planned any more moved to _aside/" in text
    directory = next(copied.glob("stages/caption-*"))
    assert len(ds.dataset(directory, format="parquet").to_table()) == runs.SAMPLES
    assert "60 done before, 0 to do" in runs.finish(recipe, copied), "the first tables come back"


def test_a_refused_recipe_leaves_the_run_as_it_was(images: Path, tmp_path: Path, copied: Path) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
    before = (copied / "recipe.yaml").read_bytes()
    runs.finish(recipe, copied, "--set", "images.uri=/nowhere", "--set", "caption.draw=all", status=2)
    assert (copied / "recipe.yaml").read_bytes() == before


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_to_go_on(
    images: Path, tmp_path: Path, out: Path, stop: signal.Signals
) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images, delay_s=0.5)
    process = runs.start(recipe, out)
    process.wait_for(lambda: len(runs.tables(out)) > 2)
    process.send_signal(stop)
    text = process.end(60)
    assert process.returncode == 130, text
    assert text.rstrip().endswith("connote: stopped; run the same command to go on from here")
    assert "Traceback" not in text and "PC:" not in text


def test_an_address_where_nobody_is_is_refused_at_once(images: Path, tmp_path: Path, out: Path) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
    address = f"127.0.0.1:{runs.free_port()}"
    text = runs.finish_alone(recipe, out, "--address", address, status=2)
    assert f"no Ray cluster answers at {address} (Connection refused)" in text and not out.exists()


def test_a_ray_client_address_is_refused(images: Path, tmp_path: Path, out: Path) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
    text = runs.finish_alone(recipe, out, "--address", "ray://127.0.0.1:10001", status=2)
    assert "connote submit" in text
