"""The benchmark of planning, at a size at which it takes a second and needs no Ray."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import planning
from benchmarks.planning_run import make
from benchmarks.planning_steps import Spent, next_part, spend
from engine.catalog import read_part
from engine.rundir import RunDirectory


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 samples in three shards of one part each."""
    root = tmp_path_factory.mktemp("planning") / "600"
    told = make(root, 600, 200)
    assert (told["shards"], told["parts"], told["rows"]) == (3, 3, 600)
    return root


def test_the_made_up_run_is_one_of_the_engine(root: Path) -> None:
    """Its parts can be read, with images; half of them are done, and no two samples have the same id."""
    run = RunDirectory.at(str(root / "run"))
    parts = [
        read_part(run.catalog / row["catalog"], row["start"], row["rows"], row["part"])
        for row in run.read_plan().to_pylist()
    ]
    assert all(part["error"].null_count == len(part) and not part["image"].null_count for part in parts)
    ids = [one for part in parts for one in part["id"].to_pylist()]
    assert len(set(ids)) == len(ids) == 600
    assert next_part(root / "run").name == f"{run.read_plan()['part'][1].as_py()}.parquet"


def test_every_step_without_ray(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in ("shard", "plan", "status", "bare"):
        spent = spend(step, str(root / "run"))
        assert spent.wall > 0 and spent.peak > 50, step
    assert spend("catalog", str(root / "run")).grown >= 0
    assert capsys.readouterr().out == "", "what steps print would be taken for their figures"


def test_it_measures_two_sizes_and_judges_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def take(step: str, directory: Path) -> Spent:
        assert (directory / "plan.parquet").exists()
        samples = int(directory.parent.name)
        seconds = samples**2 / 1e6 if step == "plan" else 2 + samples / 1e6
        return Spent(seconds, seconds, 150 + samples / 1e3, samples / 1e3)

    monkeypatch.setattr(planning, "take", take)
    outcomes = planning.run([200, 400], rounds=1, shard_rows=200)
    assert [(each.name, each.floor, each.against) for each in outcomes] == [
        ("planning", 0.8, "linear_growth")
    ]
    assert outcomes[0].ratio == pytest.approx(0.5), "planning grows with the square of the samples"
    assert "nearest to linear: cpu of plan from 200 to 400" in (printed := capsys.readouterr().out)
    assert re.search(r"connote status +400 samples: +2\.00 s", printed)


def test_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"1,000,000,000,000 samples need 80000\.0 GB .* TMPDIR"):
        planning.check_room(tmp_path, 10**12)
