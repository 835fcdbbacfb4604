"""What a run directory says about its jobs over vectors, and what another run would do. Reads files only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa

from engine.analyses import is_made, measurement_of, page_by, sources_of, tables_of, told_by
from engine.clustering.tables import Clustering
from engine.difficulty.tables import Division, voter_tables
from engine.difficulty.voters import voters_of
from engine.embeddings import VectorTables, vector_tables
from engine.errors import ConnoteError
from engine.evaluation.tables import Evaluation
from engine.evaluation.work import Work
from engine.export.mined import open_run
from engine.polysemy.tables import Measurement
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.storage import Location


@dataclass(frozen=True)
class JobStatus:
    """One job over vectors, as the run directory shows it.

    Attributes:
        name: cluster, sample, polysemy, difficulty or evaluate.
        place: where its result lies or will lie, relative to the run directory; None where that
            is not known before all vectors are there.
        there: whether it has a result.
        work: what a run would do; empty where all is done.
        parts, parts_done: of the plan, and those whose images are placed, or whose pairs are divided;
            None for other jobs.
        images: that count in the result: of cluster, those with a place; of polysemy, with vectors of
            both encoders.
        excluded: the other images, by reason.
        captions_excluded: captions without a vector, by kind; of polysemy alone.
    """

    name: str
    place: str | None
    there: bool
    work: str
    parts: int | None = None
    parts_done: int | None = None
    images: int | None = None
    excluded: dict[str, int] = field(default_factory=dict)
    captions_excluded: dict[str, int] = field(default_factory=dict)


def job_status(run: RunDirectory, recipe: Recipe, plan: pa.Table, unread: int = 0) -> list[JobStatus]:
    """The recipe's jobs over vectors, in the order in which a run does them.

    Args:
        run: the run directory.
        recipe: that would be run.
        plan: the parts that the run would have.
        unread: shards that are not cataloged yet, so that the plan lacks their parts.

    Raises:
        RecipeError: a job's encoder is not among those that embed.
    """
    found, clustering = list[JobStatus](), None
    if recipe.cluster:
        vectors = vector_tables(recipe, run, recipe.cluster.encoder, "images", "cluster.encoder")
        if _ready([vectors], plan, unread):
            clustering = Clustering.of(run, recipe, vectors, plan)
        found.append(_cluster(run, recipe, plan, clustering))
    if recipe.cluster and recipe.sample:
        found.append(_sample(run, recipe.sample.count, clustering))
    if recipe.polysemy:
        tables, measurement = tables_of(sources_of(recipe, run)), None
        # A measurement is of one fit, so before that there is none.
        if _ready(tables, plan, unread) and (not recipe.cluster or (clustering and clustering.fitted())):
            measurement = measurement_of(recipe, run, tables, clustering, plan)
        found.append(_polysemy(run, recipe, measurement))
    if recipe.difficulty:
        found += [_difficulty(run, recipe, plan, kind, unread) for kind in recipe.difficulty.captions]
    if recipe.evaluate:
        found.append(_evaluate(run, recipe, plan, unread))
    return found


def other_results(run: RunDirectory, jobs: Sequence[JobStatus]) -> list[str]:
    """Results by other settings or of other images, which stay where they are."""
    used = {"/".join(job.place.split("/")[:2]) for job in jobs if job.place}
    there = {
        f"{kind}/{info.base_name}"
        for kind in ("clusters", "polysemy", "difficulty")
        for info in (run.root / kind).entries()
        if not info.is_file and info.base_name != "thresholds"
    }
    return sorted(there - used)


def _ready(tables: Sequence[VectorTables], plan: pa.Table, unread: int) -> bool:
    """Whether all images have their vectors: only then does a job know what it works on."""
    return not unread and len(plan) > 0 and not any(table.missing(plan) for table in tables)


def _cluster(run: RunDirectory, recipe: Recipe, plan: pa.Table, place: Clustering | None) -> JobStatus:
    settings = recipe.cluster
    assert settings is not None
    parts, rows = plan["part"].to_pylist(), sum(plan["rows"].to_pylist())
    if place is None:
        return JobStatus("cluster", None, False, "fit and place all images", len(parts), 0)
    done, noted = len(place.tables.done() & set(parts)), place.noted()
    by, steps = told_by(recipe, open_run(run, recipe)), list[str]()
    if not (place.fit / "fit.json").exists():
        steps.append(f"fit {min(rows, settings.fit_rows):,} of {rows:,} images")
    if done < len(parts):
        steps.append(f"place {len(parts) - done:,} of {len(parts):,} parts")
    if steps or noted.get("told_by") != by:
        steps.append("sum up")
    if steps or not is_made(place.directory / "map.html", by):
        steps.append("draw the map")
    counts = len(parts), done, noted.get("images"), noted.get("excluded", {})
    return JobStatus("cluster", _name(place.directory, run), bool(noted), ", ".join(steps), *counts)


def _sample(run: RunDirectory, count: int, clustering: Clustering | None) -> JobStatus:
    work = f"choose {count:,} images"
    if clustering is None:
        return JobStatus("sample", None, False, work)
    place = clustering.sample(count)
    there = is_made(place, clustering.fingerprint)
    return JobStatus("sample", _name(place, run), there, "" if there else work)


def _polysemy(run: RunDirectory, recipe: Recipe, place: Measurement | None) -> JobStatus:
    settings = recipe.polysemy
    assert settings is not None
    steps, texts = list[str](), " and ".join(settings.texts)
    if place is None or not place.done:
        steps.append(
            f"measure {settings.queries:,} queries at {len(settings.radii)} radii ({texts} captions)"
        )
    if place is None or not is_made(place.directory / "curve.md", ""):
        steps.append("draw the curve")
    if recipe.cluster and (place is None or not _listed(run, recipe, place)):
        steps.append("list the clusters")
    where = None if place is None else _name(place.directory, run)
    noted = {} if place is None else place.noted()
    return JobStatus(
        "polysemy",
        where,
        bool(noted),
        ", ".join(steps),
        images=noted.get("images"),
        excluded=noted.get("excluded", {}),
        captions_excluded=noted.get("captions_excluded", {}),
    )


def _listed(run: RunDirectory, recipe: Recipe, place: Measurement) -> bool:
    """Whether the page of the most polysemous clusters is that of the captions there are now."""
    assert recipe.polysemy is not None
    return is_made(place.page, page_by(recipe.polysemy, told_by(recipe, open_run(run, recipe))))


def _difficulty(run: RunDirectory, recipe: Recipe, plan: pa.Table, captions: str, unread: int) -> JobStatus:
    assert recipe.difficulty is not None
    parts, name = set(plan["part"].to_pylist()), f"difficulty ({captions})"
    voters = len(recipe.difficulty.voters)
    tables = [t for pairs in voter_tables(recipe, run, captions) for t in (pairs.images, pairs.captions)]
    try:
        known = voters_of(recipe, run) if _ready(tables, plan, unread) else None
    except ConnoteError:  # the pairs to calibrate on are not there yet
        known = None
    if known is None:
        return JobStatus(name, None, False, f"have {voters} voters divide all pairs", len(parts), 0)
    division = Division.of(run, recipe, captions, known, plan)
    done, steps = len(division.tables.done() & parts), list[str]()
    if missing := sum(not voter.note.exists() for voter in known):
        steps.append(f"calibrate {missing} of {voters} voters")
    if done < len(parts):
        steps.append(f"divide {len(parts) - done:,} of {len(parts):,} parts")
    if steps or not division.is_summed_up(recipe.difficulty, recipe.run.seed):
        steps.append("sum up")
    place = _name(division.directory, run)
    return JobStatus(name, place, division.done, ", ".join(steps), len(parts), done)


def _evaluate(run: RunDirectory, recipe: Recipe, plan: pa.Table, unread: int) -> JobStatus:
    settings, place = recipe.evaluate, Evaluation.of(run)
    assert settings is not None
    total = len(settings.models) * len(settings.asked) + len(settings.co_captions) * len(settings.sets)
    last = run.read_plan()
    left, work = total, "write tables"
    own = any(each.run is None for each in settings.asked)
    known = not own or (not unread and last is not None and last["part"].equals(plan["part"]))
    # Where vectors are not there yet, here or in another run, nobody knows what will be asked.
    with suppress(ConnoteError):
        if known:
            asked = Work.of(recipe, run)
            total, left = len(asked.answers), sum(not each.answer.exists() for each in asked.answers)
            work = "" if is_made(place.page, asked.told) else work
    if left:
        work = f"measure {left} of {total} pairs of a model and a set"
    return JobStatus("evaluate", _name(place.directory, run), place.page.exists(), work)


def _name(place: Location, run: RunDirectory) -> str:
    return place.uri.removeprefix(f"{run.root.uri.rstrip('/')}/")
