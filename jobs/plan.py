"""What `connote plan` says: what a recipe takes in requests, tokens, hours, disk and money."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from engine.errors import RecipeError, StorageError
from engine.planning import Figure, Origin, Plan, StagePlan, estimate, images_in, measured
from engine.planning.measured import Measurements
from engine.planning.placing import Demand
from engine.planning.sizing import demands, on_gpus
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.stages import build_stages
from jobs.columns import columns
from jobs.prepare import load

#: Sections whose jobs follow the streaming pass and are not in the plan.
_AFTERWARDS = ("cluster", "sample", "polysemy", "difficulty", "evaluate", "finetune")
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_ASSUMED = "text: an 8 B model, vectors: a ViT-L, both on an 80 GB GPU"


def plan_lines(
    recipe_path: Path,
    settings: Sequence[str],
    out: str | None,
    images: int | None,
    rates: Sequence[str],
    measured_in: str | None,
    gpu_price: float | None,
    gpus: float | None,
) -> list[str]:
    """What a run of the recipe takes, and which figures are measured, given or assumed.

    Args:
        recipe_path: the recipe.
        settings: `--set` on top of it.
        out: the run directory, above the recipe's.
        images: how many; by default those in the catalog of the recipe's run directory.
        rates: `STAGE=IMAGES`, images a second on one GPU, or on one actor without a GPU.
        measured_in: a run directory whose statistics are used; by default the recipe's own.
        gpu_price: of one GPU for an hour.
        gpus: of the cluster, which pools whose actors are `auto` share.

    Raises:
        RecipeError: the recipe, a rate or a price is wrong, or nobody says how many images there are.
        StorageError: `measured_in`, or the run directory whose images are to be counted, cannot be read.
    """
    recipe = load(recipe_path, out, settings)
    stages = build_stages(recipe)
    if not stages:
        raise RecipeError(
            "the recipe has no stage to plan; add describe, associate, caption, vqascore or embed"
        )
    given = dict(_rate(text) for text in rates)
    if gpu_price is not None and not (math.isfinite(gpu_price) and gpu_price >= 0):
        raise RecipeError(f"--gpu-price {gpu_price}: write what one GPU costs for an hour, such as 2.5")
    own, notes = RunDirectory.at(recipe.run.out) if recipe.run.out else None, list[str]()
    number = Figure(images, Origin.given) if images is not None else _counted(recipe_path, own)
    measurements = _measurements(own, measured_in, notes)
    wanted, shared = demands(recipe, stages, lambda: measurements)
    actors = on_gpus(wanted, gpus) if gpus else None
    plan = estimate(recipe, stages, number, given, measurements, actors)
    table = columns(list(_rows(plan, gpu_price)))
    return [
        *_head(plan, recipe_path),
        *table,
        "",
        *_origins(plan),
        *notes,
        *_auto(wanted, gpus, shared),
        *_total(plan, gpu_price),
        *_rest(recipe),
    ]


def _rate(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        rate = float(number)
    except ValueError:
        rate = math.nan
    if not name.strip() or not (math.isfinite(rate) and rate > 0):
        raise RecipeError(f"--rate {text}: write STAGE=IMAGES, images a second on one GPU, as in describe=12")
    return name.strip(), rate


def _counted(recipe_path: Path, run: RunDirectory | None) -> Figure:
    if run is None:
        raise RecipeError(
            f"{recipe_path}: run.out is not set, so no catalog tells how many images; say --images"
        )
    try:
        number = images_in(run)
    except StorageError as error:
        raise StorageError(f"{error}; or say how many images there are with --images") from error
    if not number:
        raise RecipeError(f"{run.root.uri}: no image is cataloged there yet; say how many with --images")
    return Figure(number, Origin.measured)


def _measurements(own: RunDirectory | None, elsewhere: str | None, notes: list[str]) -> Measurements:
    """Of the run directory that is named; else the recipe's own, which need not be there or in reach yet."""
    if elsewhere is not None:
        run = RunDirectory.at(elsewhere)
        if not (found := measured(run)):
            run.read_recipe()  # which says so where this is no run directory
            notes.append(f"{run.root.uri}: no session has ended there that computed a stage of its recipe")
        return found
    try:
        return measured(own) if own else {}
    except StorageError as error:
        notes.append(f"nothing is taken from the run directory, which cannot be read: {error}")
        return {}


def _head(plan: Plan, recipe_path: Path) -> list[str]:
    origin = "counted in the catalog" if plan.images.origin is Origin.measured else "given"
    return [f"recipe     {recipe_path}", f"images     {plan.images.value:,.0f} ({origin})", ""]


def _rows(plan: Plan, gpu_price: float | None) -> Iterator[tuple[str, ...]]:
    cost = ("cost",) if gpu_price is not None else ()
    yield "stage", "requests", "output tokens", "images/s", "device-hours", "hours", "disk", *cost
    for stage in plan.stages:
        device = "GPU" if stage.pool.on_gpus else "actor"
        work = "?" if stage.device_hours is None else f"{stage.device_hours:,.1f} {device}"
        price = None if stage.device_hours is None else stage.device_hours * (gpu_price or 0)
        yield (
            stage.name,
            f"{stage.requests.value:,.0f}",
            f"{stage.output_tokens.value:,.0f}",
            "?" if stage.rate is None else f"{stage.rate.value:,.1f} a {device}",
            work,
            _hours(stage.hours),
            _size(stage.bytes.value),
            *(("-" if not stage.pool.on_gpus else _money(price),) if cost else ()),
        )


def _origins(plan: Plan) -> Iterator[str]:
    """One line for stages in a row whose figures have the same origins."""
    for said, group in groupby(plan.stages, _origin):
        yield f"  {_listed(list(group))}: {said}"
    if any(Origin.assumed in _all_origins(stage) for stage in plan.stages):
        yield f"  assumed ({_ASSUMED}); a pilot run of a few hundred images measures it: --measured-in RUN"
    if plan.measured_on:
        yield f"  measured on {plan.measured_on:,} images"


def _listed(stages: Sequence[StagePlan]) -> str:
    names = [stage.name for stage in stages]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _all_origins(stage: StagePlan) -> list[Origin]:
    rate = [stage.rate.origin] if stage.rate else []
    return [stage.requests.origin, stage.output_tokens.origin, stage.bytes.origin, *rate]


def _origin(stage: StagePlan) -> str:
    named = {"requests and tokens": stage.requests, "rate": stage.rate, "disk": stage.bytes}
    return ", ".join(f"{what} {figure.origin if figure else 'not known'}" for what, figure in named.items())


def _auto(wanted: Sequence[Demand], gpus: float | None, shared: str) -> Iterator[str]:
    """How pools without a number of actors got theirs."""
    growing = [pool for pool in wanted if pool.most is None]
    if growing and gpus is None:
        yield "  actors: auto counts as one here; --gpus N says how many GPUs the cluster has"
    elif growing and (needed := sum(pool.gpus * pool.least for pool in wanted)) > (gpus or 0):
        yield f"  {gpus:g} GPUs are too few: the pools need {needed:g} to begin"
    elif len(growing) > 1:
        yield f"  actors: auto shares {gpus:g} GPUs {shared}"


def _total(plan: Plan, gpu_price: float | None) -> Iterator[str]:
    yield ""
    for pool in plan.pools:
        kind = "GPUs" if pool.on_gpus else "actors without a GPU"
        devices = f"{pool.devices:g} {kind}"
        yield f"pool       {pool.name}: {devices}, {_hours(pool.hours)} hours"
    if plan.hours is None:
        lacking = _listed([stage for stage in plan.stages if stage.rate is None])
        yield f"time       not known: give --rate STAGE=IMAGES, or --measured-in RUN, for {lacking}"
    else:
        yield f"time       {_hours(plan.hours)} hours once models are loaded; pools work at the same time"
        if plan.gpus:
            held = plan.gpus * plan.hours
            cost = f", cost {_money(held * gpu_price)} at {gpu_price:,.2f}" if gpu_price is not None else ""
            yield f"GPUs       {plan.gpus:g} reserved for that time: {held:,.1f} GPU-hours{cost}"
    yield f"disk       {_size(plan.bytes)} of tables; images stay where they are"


def _rest(recipe: Recipe) -> Iterator[str]:
    if later := [name for name in _AFTERWARDS if getattr(recipe, name) is not None]:
        yield f"not in it  {', '.join(later)}, which follow"


def _hours(hours: float | None) -> str:
    return "?" if hours is None else f"{hours:,.1f}" if hours >= 0.1 or not hours else "<0.1"


def _money(price: float | None) -> str:
    return "?" if price is None else f"{price:,.2f}"


def _size(size: float) -> str:
    return next((f"{size / unit:,.1f} {name}" for unit, name in _UNITS if size >= unit), f"{size:,.0f} B")
