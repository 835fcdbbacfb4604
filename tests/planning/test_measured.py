from pathlib import Path

import pytest

from engine.planning import images_in, measured
from engine.stages import build_stages
from tests.planning import runs


def test_a_session_measures_what_it_computed(tmp_path: Path) -> None:
    run = runs.finished(tmp_path)
    describe, associate, _ = build_stages(run.read_recipe())
    found = measured(run)
    assert set(found) == {(s.name, s.fingerprint) for s in (describe, associate)}, "caption computed nothing"
    seen = found["describe", describe.fingerprint]
    assert (seen.images, seen.requests, seen.output_tokens, seen.on_gpus) == (12, 1.5, 100, True)
    # Actors were busy for 10, 3 and 3 seconds on two GPUs each, three quarters of it with describe.
    assert seen.rate == pytest.approx(12 / (16 * 0.75 * 2))
    assert found["associate", associate.fingerprint].rate == pytest.approx(12 / (16 * 0.25 * 2))


def test_bytes_are_those_of_the_committed_tables(tmp_path: Path) -> None:
    run = runs.finished(tmp_path)
    describe, associate, _ = build_stages(run.read_recipe())
    sizes = [path.stat().st_size for path in tmp_path.glob("stages/describe-*/part-*.parquet")]
    assert measured(run)["describe", describe.fingerprint].bytes == sum(sizes) / 12
    assert measured(run)["associate", associate.fingerprint].bytes is None, "it has no table here"


def test_a_summary_of_an_older_version_measures_no_rate(tmp_path: Path) -> None:
    run = runs.finished(tmp_path)
    summary = run.read_summary()
    assert summary is not None
    del summary["session"]["pools"]["seer (describe, associate)"]["busy_s"]
    run.write_summary(summary)
    assert {one.rate for one in measured(run).values()} == {None}


def test_nothing_is_measured_where_no_session_ended(tmp_path: Path) -> None:
    from engine.rundir import RunDirectory

    run = RunDirectory.at(str(tmp_path / "none"))
    assert (measured(run), images_in(run)) == ({}, None)


def test_nothing_is_measured_by_a_recipe_that_is_refused_now(tmp_path: Path) -> None:
    run = runs.finished(tmp_path)
    (tmp_path / "recipe.yaml").write_text("images: {source: folder, uri: nowhere, of_old: 1}")
    assert measured(run) == {}


def test_images_are_counted_in_the_plan(tmp_path: Path) -> None:
    assert images_in(runs.finished(tmp_path)) == 12
