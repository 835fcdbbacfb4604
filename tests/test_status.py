"""What is done, what failed and what is left, told from listings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.schema import DESCRIBE, PLAN
from engine.stages import Stage, build_stages
from engine.status import set_aside, stage_status, work_left
from engine.storage import Location

PARTS = [f"part-{index:06d}-{index:016x}" for index in range(0, 60, 10)]


def plan_of(parts: Sequence[str]) -> pa.Table:
    rows = [{"part": part, "catalog": "c.parquet", "start": 0, "rows": 10, "bytes": 0} for part in parts]
    return pa.Table.from_pylist(rows, schema=PLAN)


@pytest.fixture
def stages() -> list[Stage]:
    written = {
        "images": {"source": "folder", "uri": "/images"},
        "generators": {"script": {"backend": "scripted"}},
        "describe": {"generator": "script"},
        "associate": {"generator": "script"},
    }
    return build_stages(Recipe.model_validate(written))


@pytest.fixture
def run(tmp_path: Path, stages: list[Stage]) -> RunDirectory:
    """Four parts described, three of them associated, two with error rows; and a part of another plan."""
    run = RunDirectory.at(str(tmp_path))
    commit(run, stages[0], *PARTS[:4], "part-stray", failed={PARTS[1]: 2, PARTS[3]: 1, "part-stray": 5})
    commit(run, stages[1], *PARTS[1:4], failed={PARTS[3]: 1})
    return run


def commit(run: RunDirectory, stage: Stage, *parts: str, failed: dict[str, int]) -> None:
    for part in parts:
        errors = ["refused"] * failed.get(part, 0)
        rows = [{"id": str(n), "key": "k", "error": e} for n, e in enumerate([*errors, None])]
        run.tables(stage).commit(part, pa.Table.from_pylist(rows, schema=DESCRIBE))


def test_only_planned_parts_count(run: RunDirectory, stages: list[Stage]) -> None:
    first, second = stage_status(run, plan_of(PARTS), stages)
    assert (first.name, first.parts, first.parts_done, first.rows, first.rows_done) == (
        "describe",
        6,
        4,
        60,
        40,
    )
    assert (first.failed, first.rows_failed, first.rows_to_do) == ({"refused": 3}, 3, 20)
    assert (second.parts_done, second.failed) == (3, {"refused": 1})


def test_a_part_is_left_until_all_stages_have_it(run: RunDirectory, stages: list[Stage]) -> None:
    plan = plan_of(PARTS[::-1])
    assert work_left(run, plan, stages, False)["part"].to_pylist() == [PARTS[5], PARTS[4], PARTS[0]]
    with_failed = [PARTS[5], PARTS[4], PARTS[3], PARTS[1], PARTS[0]]
    assert work_left(run, plan, stages, True)["part"].to_pylist() == with_failed
    assert work_left(run, plan, [], False) == plan


def test_an_empty_plan_has_nothing_left(run: RunDirectory, stages: list[Stage]) -> None:
    assert len(work_left(run, PLAN.empty_table(), stages, False)) == 0
    assert [(s.parts, s.rows, s.failed) for s in stage_status(run, PLAN.empty_table(), stages)] == [
        (0, 0, {})
    ] * 2


def test_what_is_not_planned_is_set_aside_and_what_comes_back_is_told(
    run: RunDirectory, stages: list[Stage]
) -> None:
    said = list[str]()
    assert not set_aside(run, plan_of(PARTS), stages, said.append)
    assert said == ["describe: 1 tables of parts that are not planned any more moved to _aside/"]
    assert set_aside(run, plan_of([*PARTS, "part-stray"]), stages, said.append) and len(said) == 1
    assert run.tables(stages[0]).failures("part-stray") == {"refused": 5}


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_directory_is_listed_once(
    where: str,
    tmp_path: Path,
    stages: list[Stage],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A listing of a hundred thousand parts takes an object store minutes."""
    root = str(tmp_path) if where == "disk" else f"{request.getfixturevalue('bucket')}/run"
    run, listed, real = RunDirectory.at(root), list[str](), Location.names
    commit(run, stages[0], *PARTS[:3], failed={PARTS[1]: 1})
    monkeypatch.setattr(Location, "names", lambda place: (listed.append(place.uri), real(place))[1])
    plan, directories = plan_of(PARTS), sorted(run.tables(stage).directory.uri for stage in stages)
    assert [state.parts_done for state in stage_status(run, plan, stages)] == [3, 0]
    assert sorted(listed) == directories
    for retry in (False, True):
        listed.clear()
        work_left(run, plan, stages, retry)
        assert sorted(listed) == directories
    listed.clear()
    set_aside(run, plan, stages, print)
    assert sorted(listed) == sorted([*directories, *(f"{each}/_aside" for each in directories)])
