"""What follows the streaming pass: the jobs over a run's vectors, on one Ray, each where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from engine.analyses import is_made, note_made, page_by
from engine.clustering.tables import Clustering, numbers_in
from engine.device import device_of
from engine.difficulty.tables import Division
from engine.errors import RecipeError
from engine.export.mined import open_run
from engine.flow.cluster import cluster
from engine.flow.clustering import cluster_images
from engine.flow.difficulty import divide_run
from engine.flow.evaluate import evaluate
from engine.flow.members import is_in
from engine.flow.neighbourhood import on_map
from engine.flow.pictures import draw_clusters, draw_curve, draw_map
from engine.flow.polysemy import measure_polysemy
from engine.flow.reach import check_reach
from engine.flow.spread import call, each, results, slices
from engine.planning.placing import Demand
from engine.polysemy.sampling import farthest_points
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.storage import Location

#: One row per chosen image, in the order of choice; `distance` to the nearest chosen before it.
SAMPLE = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("distance", pa.float64()),
    ]
)


def analyse(
    recipe: Recipe,
    run: RunDirectory,
    *,
    address: str | None = None,
    verbose: bool = False,
    wait: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Run a recipe's sections `cluster`, `sample`, `polysemy`, `difficulty`, `evaluate` over a run's vectors.

    Returns:
        Lines that say where the results lie; none where the recipe has no such section.

    Raises:
        RecipeError: vectors are missing or too few, or a setting cannot be met here.
        StorageError: the run directory fails; what is committed is kept.
    """
    plan = (run.read_plan() or pa.table({})).to_pylist()
    rows = sum(row["rows"] for row in plan)
    if recipe.sample and 0 < rows < recipe.sample.count:
        raise RecipeError(
            f"sample.count is {recipe.sample.count:,}, and the run has {rows:,} images; lower it"
        )
    reserved = [
        Demand(name, job.cpus, job.gpus, getattr(job, "actors", 1))
        for name, job in (
            ("cluster", recipe.cluster),
            ("polysemy", recipe.polysemy),
            ("difficulty", recipe.difficulty),
            ("evaluate", recipe.evaluate),
        )
        if job is not None
    ]
    lines: list[str] = []
    with ExitStack() as stack:
        started: list[bool] = []

        def start_ray() -> None:
            if not started:
                started.append(True)
                joining = cluster(address, reserved, verbose, together=False, wait=wait, say=say)
                stack.enter_context(joining)
                check_reach(address, run.root)

        def once(
            result: Location,
            by: str,
            function: Callable[..., None],
            *arguments: Any,
            cpus: float = 1,
            gpus: float = 0,
        ) -> None:
            """Have a task make a file that is not there yet, or was made by something else."""
            if not is_made(result, by):
                start_ray()
                call(function, *arguments, cpus=cpus, gpus=gpus)
                note_made(result, by)

        place = None
        if recipe.cluster:
            place = cluster_images(recipe, run, start_ray, say)
            mined, told_by = open_run(run, recipe), str(place.noted()["told_by"])
            once(place.directory / "map.html", told_by, draw_map, mined, place, plan)
            lines += [
                f"clusters   {place.clusters.uri}",
                f"map        {place.directory.uri}/map.html, map.png",
            ]
        if recipe.cluster and recipe.sample and place:
            chosen = place.sample(recipe.sample.count)
            cpus, gpus = recipe.cluster.cpus, recipe.cluster.gpus
            asked = place, recipe.sample.count, plan, chosen, gpus
            once(chosen, place.fingerprint, _sample, *asked, cpus=cpus, gpus=gpus)
            lines.append(f"sample     {chosen.uri}")
        if recipe.polysemy:
            measured = measure_polysemy(recipe, run, place, start_ray, say)
            once(measured.directory / "curve.md", "", draw_curve, run, measured, recipe.polysemy)
            lines.append(f"polysemy   {measured.directory.uri}/curve.md, curve.png")
            if place:
                page, by = measured.page, page_by(recipe.polysemy, told_by)
                once(page, by, draw_clusters, mined, measured, place, plan)
                lines.append(f"           {page.uri}: the most polysemous clusters")
        if recipe.difficulty:
            divide_run(recipe, run, start_ray, say)
            lines.append(f"difficulty {Division.pages(run)[0].uri}, shares.png")
        if recipe.evaluate:
            found = evaluate(recipe, run, start_ray, say)
            lines.append(f"evaluation {found.page.uri}, figures.parquet, figures.csv")
    return lines


def _sample(
    place: Clustering, count: int, plan: Sequence[Mapping[str, Any]], target: Location, gpus: float
) -> None:
    """Farthest-point sampling over the map (METHODS B7), as a table of ids in order of choice."""
    device, parts = device_of(gpus, "cluster.gpus"), slices([row["part"] for row in plan])
    pieces = results(each(parts, on_map, place))
    numbers = np.concatenate([numbers for numbers, _ in pieces])
    if count > len(numbers):
        raise RecipeError(f"sample.count is {count:,}, and {len(numbers):,} images have a place; lower it")
    chosen = farthest_points(np.concatenate([points for _, points in pieces]), count, device)
    wanted = numbers[chosen.rows]
    # Of all images there are numbers here; names are read for the chosen ones.
    named = pa.concat_tables(results(each(parts, _named, place, ray.put(np.sort(wanted)))))
    order = {number: row for row, number in enumerate(numbers_in(named).tolist())}
    ids = named.take([order[number] for number in wanted.tolist()])
    distances = pa.array(np.where(np.isfinite(chosen.distances), chosen.distances, np.nan), from_pandas=True)
    target.write_table(ids.append_column("distance", distances).cast(SAMPLE))


def _named(parts: Sequence[str], place: Clustering, wanted: NDArray[np.uint64]) -> pa.Table:
    """Ids and keys of those images of some parts that are wanted; `wanted` ascends."""
    tables = [place.read(part, ("id", "key")) for part in parts]
    return pa.concat_tables(table.filter(is_in(numbers_in(table), wanted)) for table in tables)
