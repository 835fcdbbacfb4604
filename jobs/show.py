"""What the command line says of a run: its summary, its status, a few of its samples (`glance`)."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.catalog import CatalogTables, discover, plan_parts
from engine.catalog.tables import is_current
from engine.errors import ConnoteError, RecipeError
from engine.export.glance import plain, sample_lines
from engine.flow.progress import clock
from engine.job_status import JobStatus, job_status, other_results
from engine.recipe import Recipe, load_recipe, parse_recipe
from engine.rundir import RunDirectory
from engine.schema import PLAN
from engine.stages import Stage, build_stages
from engine.status import StageStatus, stage_status
from engine.training.model_directory import model_lines
from jobs.columns import columns

__all__ = ["sample_lines", "status_lines", "summary_lines"]

_REASONS = 4  # that are listed for a stage; the others are counted


def summary_lines(summary: Mapping[str, Any], recipe: Recipe, root_uri: str) -> list[str]:
    """What `connote run` ends with.

    Args:
        summary: the content of summary.json.
        recipe: what was run.
        root_uri: the run directory.
    """
    session = summary["session"]
    rows = [("stage", "done", "failed", "to do", "flagged now")]
    reasons: dict[str, dict[str, int]] = {}
    for name, stage in summary["stages"].items():
        flags = session["stages"].get(name, {}).get("flags", {})
        reasons |= {f"{name} failed": stage["failed"], f"{name} flagged": flags}
        done, failed = stage["done"], sum(stage["failed"].values())
        rows.append((name, *(f"{n:,}" for n in (done, failed, stage["to_do"], sum(flags.values())))))
    lines = ["", *columns(rows), *_listed(reasons), "", *_speed(session)]
    if summary["failed_share"] > recipe.run.max_failed_share:
        share, allowed = summary["failed_share"], recipe.run.max_failed_share
        lines.append(f"failed     {share:.1%} of the samples, more than run.max_failed_share ({allowed:.1%})")
    if summary["failed_samples"]:
        lines.append("retry      the same command with --retry-failed")
    run = shlex.quote(root_uri)
    lines += [f"output     {root_uri}", f"look       connote show {run}"]
    return [*lines, f"export     connote export {run} DIR --to hf", f"status     connote status {run}"]


def status_lines(run: RunDirectory, recipe_path: Path | None, settings: Sequence[str]) -> list[str]:
    """What is done, what failed, and what a run would compute. Reads files only.

    Args:
        run: the run directory.
        recipe_path: the recipe that would be run; the run's own by default.
        settings: `--set` on top of it.

    Raises:
        StorageError: this is no run directory.
        RecipeError: the recipe, or a model or prompt that it names, cannot be used.
    """
    recipe, own = run.read_recipe(), recipe_path is None and not settings
    if recipe_path is not None:
        recipe = load_recipe(recipe_path, settings)
    elif settings:
        place = run.root / "recipe.yaml"
        recipe = parse_recipe(place.read_text(), settings, origin=place.uri)
    summary = run.read_summary()
    lines = [f"run        {run.root.uri}", f"recipe     {_recipe_name(recipe_path, settings)}"]
    plan, unread, source = _plan_now(run, recipe)
    lines += [*source, f"samples    {pc.sum(plan['rows']).as_py() or 0:,} in {len(plan):,} parts", ""]
    try:
        stages = build_stages(recipe)
    except RecipeError as error:
        if not own or summary is None:
            raise
        return [*lines, f"cannot tell what is to do: {error}", *_last_session(summary)]
    states, jobs = stage_status(run, plan, stages), job_status(run, recipe, plan, unread)
    lines += [*_state_table(states), *_listed({f"{s.name} failed": s.failed for s in states}), ""]
    lines += _job_table(jobs)
    lines += [*_work(states, jobs, unread), *_other_tables(run, stages, jobs), *model_lines(run)]
    return [*lines, *_last_session(summary)] if summary else lines


def _recipe_name(path: Path | None, settings: Sequence[str]) -> str:
    return " ".join([str(path) if path else "the run's own", *(f"--set {shlex.quote(s)}" for s in settings)])


def _plan_now(run: RunDirectory, recipe: Recipe) -> tuple[pa.Table, int, list[str]]:
    """The parts that a run would have, the shards that it would catalog, and how the source stands."""
    tables = CatalogTables(run.catalog)
    try:
        shards = discover(recipe.images, run.root)
    except ConnoteError as error:
        plan = run.read_plan()
        line = f"source     cannot be read now, so the last run's plan is shown: {error}"
        return PLAN.empty_table() if plan is None else plan, 0, [line]
    known = tables.get_all(shards)
    current = [known[s.name] for s in shards if s.name in known and is_current(known[s.name], s)]
    lines = [f"source     {len(shards):,} shards, {len(current):,} of them cataloged and unchanged"]
    new = [shard.name for shard in shards if shard.name not in known]
    changed = [s.name for s in shards if s.name in known and not is_current(known[s.name], s)]
    states = {"not cataloged yet": new, "changed": changed, "gone": tables.gone(shards)}
    lines += [f"           {state}: {_some(names)}" for state, names in states.items() if names]
    limits = recipe.run.part_rows, recipe.run.part_bytes
    plan = plan_parts(run.catalog, current, *limits, kept=run.kept_plan())
    return plan, len(shards) - len(current), lines


def _state_table(states: Sequence[StageStatus]) -> list[str]:
    rows = [("stage", "parts done", "rows done", "failed", "to do", "tables")]
    for state in states:
        parts, done = f"{state.parts_done:,}/{state.parts:,}", f"{state.rows_done:,}/{state.rows:,}"
        figures = (parts, done, f"{state.rows_failed:,}", f"{state.rows_to_do:,}")
        rows.append((state.name, *figures, f"{state.name}-{state.fingerprint}"))
    return list(columns(rows))


def _job_table(jobs: Sequence[JobStatus]) -> list[str]:
    """The jobs over vectors: what each has, and why images are not in it."""
    if not jobs:
        return []
    rows = [("job", "parts placed", "images", "excluded", "result")]
    for job in jobs:
        placed = "-" if job.parts is None else f"{job.parts_done:,}/{job.parts:,}"
        counted = ("-", "-") if job.images is None else (f"{job.images:,}", f"{sum(job.excluded.values()):,}")
        rows.append((job.name, placed, *counted, job.place or "" if job.there else "none yet"))
    reasons: dict[str, Mapping[str, int]] = {}
    for job in jobs:
        captions = {f"{kind}: empty, or no direction": n for kind, n in job.captions_excluded.items()}
        reasons |= {f"{job.name} excluded": job.excluded, f"{job.name} captions excluded": captions}
    return [*columns(rows), *_listed(reasons), ""]


def _work(states: Sequence[StageStatus], jobs: Sequence[JobStatus], unread: int) -> Iterator[str]:
    """What a run would compute; how many samples `unread` shards hold is not known yet."""
    work = [f"{state.name} for {state.rows_to_do:,} samples" for state in states if state.rows_to_do]
    work += [f"all of it for the {unread:,} shards not cataloged or changed"] if unread else []
    work += [f"{job.name} ({job.work})" for job in jobs if job.work]
    yield f"a run with this recipe would compute: {', '.join(work) or 'nothing, all of it is done'}"
    if failed := max((state.rows_failed for state in states), default=0):
        yield f"with --retry-failed also: the {failed:,} samples that failed"


def _other_tables(run: RunDirectory, stages: Sequence[Stage], jobs: Sequence[JobStatus]) -> Iterator[str]:
    """Tables and results of other settings or other images, which stay where they are."""
    used = {run.tables(stage).directory.name for stage in stages}
    names = {info.base_name for info in (run.root / "stages").entries() if not info.is_file}
    if others := [*sorted(names - used), *other_results(run, jobs)]:
        yield f"made by other recipes or settings, and kept: {_some(others)}"


def _last_session(summary: Mapping[str, Any]) -> list[str]:
    return ["", "the last session that ended:", *_speed(summary["session"])]


def _speed(session: Mapping[str, Any]) -> list[str]:
    if not session["samples"]:
        return ["speed      nothing was left to compute"]
    busy = ", ".join(
        f"{name} {pool['busy_share']:.0%} (actors: {pool['actors']})"
        for name, pool in session["pools"].items()
    )
    rate = f"{session['images_per_s']:,} images/s"
    if session["output_tokens_per_s"]:
        rate += f", {session['output_tokens_per_s']:,} output tokens/s"
    vectors = sum(stage.get("counts", {}).get("vectors", 0) for stage in session["stages"].values())
    if vectors and session["seconds"]:
        rate += f", {vectors / session['seconds']:,.1f} vectors/s"
    took = f"{session['samples']:,} samples in {clock(session['seconds'])}"
    return [f"speed      {rate} ({took})", *([f"busy       {busy}"] if busy else [])]


def _listed(reasons: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The most common reasons under each heading."""
    for heading, counts in reasons.items():
        ordered = sorted(Counter(counts).items(), key=lambda item: (-item[1], item[0]))
        yield from (f"  {heading}: {count:,} x {plain(reason)}" for reason, count in ordered[:_REASONS])
        if rest := ordered[_REASONS:]:
            yield f"  {heading}: {sum(n for _, n in rest):,} x {len(rest)} other reasons"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(plain, names[:5]))
    return shown + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
