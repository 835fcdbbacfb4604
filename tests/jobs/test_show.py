"""What the command line says of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.errors import RecipeError, StorageError
from engine.export import glance
from engine.export.mined import MinedSample
from engine.job_status import JobStatus
from engine.recipe import Recipe, dump_recipe
from engine.rundir import RunDirectory
from engine.stages import build_stages
from jobs.show import sample_lines, status_lines, summary_lines
from tests.export.runs import Made, make_run, many, mine_by_hand, picture, recipe_of

pytestmark = pytest.mark.filterwarnings("error")


def summary(**changes: Any) -> dict[str, Any]:
    stage = {"computed": 480, "flags": {"repeats another caption": 7}}
    return {
        "samples": 480,
        "failed_samples": 3,
        "failed_share": 3 / 480,
        "complete": True,
        "stages": {"caption": {"fingerprint": "ab", "done": 480, "failed": {"not an image": 3}, "to_do": 0}},
        "session": {
            "samples": 480,
            "parts": 30,
            "seconds": 185.0,
            "images_per_s": 2.59,
            "output_tokens_per_s": 1234.5,
            "pools": {"seer": {"actors": 2, "busy_share": 0.917}},
            "stages": {"caption": stage},
        },
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path) -> tuple[RunDirectory, Recipe]:
    """A finished run over a folder of six images."""
    (tmp_path / "images").mkdir()
    for i in range(6):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(picture(i))
    recipe, run = recipe_of(tmp_path / "images"), RunDirectory.at(str(tmp_path / "run"))
    recipe = recipe.model_copy(update={"images": recipe.images.model_copy(update={"shard_images": 3})})
    mine_by_hand(run, recipe)
    return run, recipe


def line_with(lines: list[str], text: str) -> str:
    return next(line for line in lines if text in line)


def test_summary_tells_rows_reasons_rates_and_what_next() -> None:
    text = "\n".join(summary_lines(summary(), recipe_of(Path("/x")), "/runs/my run"))
    assert "caption failed: 3 x not an image" in text
    assert "caption flagged: 7 x repeats another caption" in text
    assert "2.59 images/s, 1,234.5 output tokens/s (480 samples in 3 min 05 s)" in text
    assert "busy       seer 92% (actors: 2)" in text
    assert "--retry-failed" in text
    assert "connote show '/runs/my run'" in text
    assert "max_failed_share" not in text
    many_failed = summary_lines(summary(failed_share=0.5), recipe_of(Path("/x")), "/r")
    assert "more than run.max_failed_share (5.0%)" in "\n".join(many_failed)


def test_summary_of_a_run_with_nothing_to_do() -> None:
    session = {**summary()["session"], "samples": 0, "stages": {}}
    lines = summary_lines(summary(session=session), recipe_of(Path("/x")), "/r")
    assert "speed      nothing was left to compute" in lines


def test_columns_are_aligned() -> None:
    stage = {"fingerprint": "ab", "done": 1_000_000, "failed": {}, "to_do": 5}
    stages = {"caption": stage, "associate": {**stage, "done": 3}}
    lines = summary_lines(summary(stages=stages), recipe_of(Path("/x")), "/r")
    head = lines.index(line_with(lines, "to do"))
    end = lines[head].index("done") + len("done")
    assert [line[:end].split()[-1] for line in lines[head + 1 : head + 3]] == ["1,000,000", "3"]


def test_status_of_a_finished_run(folder: tuple[RunDirectory, Recipe]) -> None:
    lines = status_lines(folder[0], None, [])
    assert line_with(lines, "shards").endswith("2 shards, 2 of them cataloged and unchanged")
    assert line_with(lines, "caption ").split()[:5] == ["caption", "4/4", "6/6", "0", "0"]
    assert line_with(lines, "would compute").endswith("nothing, all of it is done")


def test_status_tells_what_another_prompt_would_redo(
    folder: tuple[RunDirectory, Recipe], tmp_path: Path
) -> None:
    run, recipe = folder
    old = build_stages(recipe)[-1].fingerprint
    lines = status_lines(run, None, ["caption.max_words=7"])
    assert line_with(lines, "would compute").endswith("compute: caption for 6 samples")
    assert line_with(lines, "recipes or settings").endswith(f"caption-{old}")
    path = tmp_path / "other.yaml"
    path.write_text(dump_recipe(recipe.model_copy(update={"associate": None, "caption": None})))
    assert line_with(status_lines(run, path, []), "would compute").endswith("nothing, all of it is done")
    cut = status_lines(run, path, ["run.part_rows=3"])
    assert line_with(cut, "would compute").endswith("compute: describe for 6 samples")


def test_status_names_shards_that_are_new_changed_or_gone(
    folder: tuple[RunDirectory, Recipe], tmp_path: Path
) -> None:
    (tmp_path / "images" / "0.jpg").write_bytes(picture(99))
    (tmp_path / "images" / "6.jpg").write_bytes(picture(6))
    lines = status_lines(folder[0], None, [])
    assert line_with(lines, "source").endswith("3 shards, 1 of them cataloged and unchanged")
    assert line_with(lines, "not cataloged yet: ") and line_with(lines, "  changed: ")
    assert "all of it for the 2 shards" in line_with(lines, "would compute")
    for file in sorted((tmp_path / "images").iterdir())[3:]:
        file.unlink()
    assert line_with(status_lines(folder[0], None, []), "  gone: ")


def test_status_without_its_source_shows_the_last_plan(tmp_path: Path) -> None:
    made = [Made("a", picture(0), describe_error="truncated"), *many(4)]
    run = make_run(tmp_path, made, done=2)
    run.write_summary(summary())
    lines = status_lines(run, None, [])
    assert "cannot be read now" in line_with(lines, "source  ")
    assert line_with(lines, "describe ").split()[:5] == ["describe", "2/3", "4/5", "1", "1"]
    assert "describe failed: 1 x truncated" in "\n".join(lines)
    assert line_with(lines, "--retry-failed") == "with --retry-failed also: the 1 samples that failed"
    assert "2.59 images/s" in lines[-2]


def test_status_where_the_model_is_not(
    folder: tuple[RunDirectory, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> None:
        raise RecipeError("model /models/seer: no such directory")

    monkeypatch.setattr("jobs.show.build_stages", gone)
    with pytest.raises(RecipeError, match="/models/seer"):
        status_lines(folder[0], None, [])
    folder[0].write_summary(summary())
    assert "/models/seer" in line_with(status_lines(folder[0], None, []), "cannot tell")


def test_status_tells_of_the_jobs_over_vectors(
    folder: tuple[RunDirectory, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = folder
    assert not any(line.startswith("job ") for line in status_lines(run, None, [])), "it has none"
    places = run.root / "clusters"
    for name in ("ab", "cd"):
        (places / name / "result.json").write_bytes(b"{}")
    excluded = {"not an image": 3, "no direction": 1}
    jobs = [
        JobStatus("cluster", "clusters/ab", True, "draw the map", 4, 4, 1_200, excluded),
        JobStatus("sample", "clusters/ab/sample-9.parquet", False, "choose 9 images"),
        JobStatus("polysemy", None, False, "measure"),
        JobStatus("other", "p/a", True, "", images=7, captions_excluded={"mined": 1_002}),
    ]
    monkeypatch.setattr("jobs.show.job_status", lambda *_: jobs)
    lines = status_lines(run, None, [])
    assert line_with(lines, "other ").split() == ["other", "-", "7", "0", "p/a"]
    assert "  other captions excluded: 1,002 x mined: empty, or no direction" in lines
    assert line_with(lines, "cluster ").split() == ["cluster", "4/4", "1,200", "4", "clusters/ab"]
    assert line_with(lines, "sample ").split() == ["sample", "-", "-", "-", "none", "yet"]
    assert line_with(lines, "polysemy ").split() == ["polysemy", "-", "-", "-", "none", "yet"]
    assert "  cluster excluded: 3 x not an image" in lines and "  cluster excluded: 1 x no direction" in lines
    work = line_with(lines, "would compute")
    assert work.endswith("compute: cluster (draw the map), sample (choose 9 images), polysemy (measure)")
    assert line_with(lines, "recipes or settings").endswith("kept: clusters/cd")


def test_status_asks_about_the_plan_that_a_run_would_have(
    folder: tuple[RunDirectory, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("jobs.show.job_status", lambda *given: asked.append(given) or [])
    (tmp_path / "images" / "6.jpg").write_bytes(picture(6))
    status_lines(folder[0], None, ["run.part_rows=3"])
    ((_, recipe, plan, unread),) = asked
    assert recipe.run.part_rows == 3 and len(plan) == 2 and unread == 1


def test_status_of_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no run directory"):
        status_lines(RunDirectory.at(str(tmp_path)), None, [])


def test_samples_show_associations_and_captions(tmp_path: Path) -> None:
    made = [
        Made("broken", picture(0), caption_error="x"),
        Made("evil\x1b[31m\nkey", picture(1), flags={"concept": "longer than 9 words"}),
        *(Made(f"k{i}", picture(i), texts={"context": "word " * 60}) for i in range(20)),
    ]
    run = make_run(tmp_path, made)
    lines = sample_lines(run, 3)
    assert lines == sample_lines(run, 3)
    text = "\n".join(lines)
    assert "evil [31m key" in text and "\x1b" not in text
    assert "broken" not in text
    assert line_with(lines, "original").split() == ["original", "A", "dog", "walks."]
    words = line_with(lines, "metaphor").split()
    assert words == ["metaphor", "anchor", "A", "anchor", "near", "evil", "[31m", "key"]
    assert "[longer than 9 words]" in text
    assert max(map(len, lines)) <= 100
    assert text.count("dog (noun)") == 3


@pytest.mark.parametrize(("count", "more"), [(0, []), (1, []), (5, []), (6, ["and 1 more"])])
def test_captions_that_an_image_came_with(count: int, more: list[str]) -> None:
    captions = [f"caption {number}" for number in range(count)]
    lines = list(glance._sample(MinedSample("0" * 16, "k", "k.jpg", None, 1, captions, None, None)))
    assert [line.removeprefix("  original").strip() for line in lines] == ["k", *captions[:5], *more]
    assert [number for number, line in enumerate(lines) if "original" in line] == [1][:count]


@pytest.mark.parametrize("count", [1, 2, 5, 8, 50])
def test_as_many_samples_as_there_are(tmp_path: Path, count: int) -> None:
    run = make_run(tmp_path, many(8), part_rows=3)
    lines = sample_lines(run, count)
    assert sum(line == "  dog (noun)" for line in lines) == min(count, 8)


def test_no_good_sample_yet(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(2), done=0)
    assert "no sample has been mined" in sample_lines(run, 3)[0]


def test_a_kept_plan_is_read_in_the_place_of_all_sizes(
    folder: tuple[RunDirectory, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = folder
    with monkeypatch.context() as patch:
        patch.setattr("engine.catalog.parts.read_sizes", lambda place: pytest.fail(f"{place.uri} is read"))
        lines = status_lines(run, None, [])
    assert line_with(lines, "samples ") == "samples    6 in 4 parts"
    (run.root / "plan.parquet").write_bytes(b"no table")
    assert status_lines(run, None, []) == lines, "it can be made anew"
