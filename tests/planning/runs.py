"""A run directory as a session leaves it, made without Ray: two pools, of which one embeds nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from engine.flow.report import PartReport, Session, StageReport
from engine.recipe import Recipe, parse_recipe
from engine.rundir import RunDirectory
from engine.schema import DESCRIBE, PLAN
from engine.stages import build_stages
from engine.status import stage_status
from engine.summary import summarize

ROWS = 6  # of each of two parts
RECIPE = """
images: {source: folder, uri: nowhere}
run: {out: OUT}
generators:
  seer: {backend: vllm, model: terrarium, gpus: 2, actors: 4}
  poet: {backend: scripted, actors: 3}
describe: {generator: seer}
associate: {generator: seer, elements: 2}
caption: {generator: poet, levels: [synonym, metaphor]}
"""


def recipe(out: Path, text: str = RECIPE) -> Recipe:
    return parse_recipe(text.replace("OUT", str(out)), origin="test")


def finished(out: Path) -> RunDirectory:
    """A run of 12 images: describe and associate worked, caption had been done before."""
    run, made = RunDirectory.at(str(out)), recipe(out)
    stages = build_stages(made)
    parts = ["part-000000-a", "part-000006-b"]
    rows = [{"part": p, "catalog": "c", "start": 0, "rows": ROWS, "bytes": 1} for p in parts]
    plan = pa.Table.from_pylist(rows, schema=PLAN)
    run.write_recipe(made)
    run.write_plan(plan)
    session = Session()
    for number, part in enumerate(parts):
        told = [
            {"id": f"{number}-{row}", "key": str(row), "description": "one colour " * 20}
            for row in range(ROWS)
        ]
        run.tables(stages[0]).commit(part, pa.Table.from_pylist(told, schema=DESCRIBE))
        report = PartReport(part, ROWS)
        report.stages = {
            "describe": StageReport(computed=ROWS, seconds=3, requests=9, output_tokens=600),
            "associate": StageReport(computed=ROWS, seconds=1, requests=18, output_tokens=120),
            "caption": StageReport(),
        }
        # Counters grow: the second part's are those of the whole life of its actor.
        meter = {"busy_s": 5.0 * (number + 1), "alive_s": 20.0 * (number + 1)}
        report.meters = {
            "seer (describe, associate)": {"a": meter, f"b{number}": {"busy_s": 3, "alive_s": 4}}
        }
        session.add(report)
    session.seconds = 60
    run.write_summary(summarize(session, stage_status(run, plan, stages), 12))
    return run
