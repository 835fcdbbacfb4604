"""From a recipe and a number of images to what each stage, each pool and the whole run takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.errors import RecipeError
from engine.planning.assumed import assumed
from engine.planning.figures import Figure, Origin
from engine.planning.measured import Measured, Measurements
from engine.recipe import Embed, OpenAI, Recipe, Scripted, Vllm
from engine.stages import Stage
from engine.stages.groups import engine_settings, group_name, group_stages

Settings = Vllm | OpenAI | Scripted | Embed


@dataclass(frozen=True)
class PoolPlan:
    """A pool of actors: how many devices it has, and how long they work.

    Attributes:
        name: as in the summary.
        devices: its GPUs, or its actors where they have none; of a pool that grows, the most.
        on_gpus: which of the two.
        hours: of the pool, all devices at work; None where a stage's rate is not known.
    """

    name: str
    devices: float
    on_gpus: bool
    hours: float | None


@dataclass(frozen=True)
class StagePlan:
    """What one stage takes for all images.

    Attributes:
        requests, output_tokens, bytes: for all images.
        rate: images a second on one device of the pool; None where nobody knows it.
        device_hours: of one GPU, or of one actor without a GPU.
        pool: whose devices.
    """

    name: str
    requests: Figure
    output_tokens: Figure
    bytes: Figure
    rate: Figure | None
    device_hours: float | None
    pool: PoolPlan

    @property
    def hours(self) -> float | None:
        """With all of the pool's devices, if they did nothing else."""
        return None if self.device_hours is None else self.device_hours / self.pool.devices


@dataclass(frozen=True)
class Plan:
    """What a run takes. Its pools work at the same time, so the slowest of them decides how long."""

    images: Figure
    stages: tuple[StagePlan, ...]
    pools: tuple[PoolPlan, ...]
    measured_on: int  # images, the fewest of the stages that were measured; 0 where none was

    @property
    def hours(self) -> float | None:
        """Of the run, models loaded; None where a stage's rate is not known."""
        known = [pool.hours for pool in self.pools if pool.hours is not None]
        return max(known) if len(known) == len(self.pools) else None

    @property
    def gpus(self) -> float:
        """That all pools together reserve."""
        return sum(pool.devices for pool in self.pools if pool.on_gpus)

    @property
    def bytes(self) -> float:
        """Of all the stages' tables."""
        return sum(stage.bytes.value for stage in self.stages)


def estimate(
    recipe: Recipe,
    stages: Sequence[Stage],
    images: Figure,
    rates: Mapping[str, float],
    measurements: Measurements,
    actors: Mapping[str, int] | None = None,
) -> Plan:
    """Say what a run takes; a given rate stands above a measured one, and that above an assumed one.

    Args:
        recipe: what would be run.
        stages: the recipe's.
        images: how many.
        rates: images a second on one GPU (one actor where a pool has none), by the name of a stage, or of
            a section for each of its stages.
        measurements: of earlier runs.
        actors: of pools whose number is `auto`, by their names; one, where it is not given.

    Raises:
        RecipeError: a rate names no stage of the recipe.
    """
    _check_rates(rates, stages)
    planned, pools, measured_on = list[StagePlan](), list[PoolPlan](), list[int]()
    for group in group_stages(stages):
        settings = engine_settings(recipe, group[0].engine)
        figures = {}
        for stage in group:
            found = measurements.get((stage.name, stage.fingerprint))
            measured_on += [found.images] if found else []
            figures[stage.name] = _figures(recipe, stage, settings, found, _given(stage, rates))
        name = group_name(group)
        count = (actors or {}).get(name) or _count(settings)
        rates_here = [rate for *_, rate in figures.values()]
        pool = _pool(name, count, settings, rates_here, images.value)
        pools.append(pool)
        planned += _stage_plans(figures, images.value, pool)
    return Plan(images, tuple(planned), tuple(pools), min(measured_on, default=0))


#: Of one image: requests, output tokens, bytes; and the rate.
_Figures = tuple[Figure, Figure, Figure, Figure | None]


def _figures(
    recipe: Recipe,
    stage: Stage,
    settings: Settings,
    found: Measured | None,
    given: float | None,
) -> _Figures:
    usual, on_gpus = assumed(stage, recipe, settings), _on_gpus(settings)
    requests, tokens = Figure(usual.requests, Origin.assumed), Figure(usual.output_tokens, Origin.assumed)
    size = Figure(usual.bytes, Origin.assumed)
    rate = None if usual.gpu_seconds is None else Figure(1 / usual.gpu_seconds, Origin.assumed)
    if found:
        requests = Figure(found.requests, Origin.measured)
        tokens = Figure(found.output_tokens, Origin.measured)
        size = size if found.bytes is None else Figure(found.bytes, Origin.measured)
        if found.rate is not None and found.on_gpus == on_gpus:
            rate = Figure(found.rate, Origin.measured)
    return requests, tokens, size, rate if given is None else Figure(given, Origin.given)


def _on_gpus(settings: Settings) -> bool:
    return settings.gpus > 0


def _count(settings: Settings) -> int:
    """Its actors; of a pool that grows, the most."""
    most = settings.actors.max
    return settings.actors.least if most == "auto" else most


def _pool(
    name: str,
    actors: int,
    settings: Settings,
    rates: Sequence[Figure | None],
    images: float,
) -> PoolPlan:
    devices = actors * (settings.gpus or 1)
    seconds = sum(1 / rate.value for rate in rates if rate)
    hours = None if None in rates else images * seconds / devices / 3600
    return PoolPlan(name, devices, _on_gpus(settings), hours)


def _stage_plans(figures: Mapping[str, _Figures], images: float, pool: PoolPlan) -> Iterator[StagePlan]:
    for name, (requests, tokens, size, rate) in figures.items():
        yield StagePlan(
            name,
            Figure(requests.value * images, requests.origin),
            Figure(tokens.value * images, tokens.origin),
            Figure(size.value * images, size.origin),
            rate,
            None if rate is None else images / rate.value / 3600,
            pool,
        )


def _names(stage: Stage) -> tuple[str, str]:
    return stage.name, stage.name.partition("-")[0]


def _given(stage: Stage, rates: Mapping[str, float]) -> float | None:
    return next((rates[name] for name in _names(stage) if name in rates), None)


def _check_rates(rates: Mapping[str, float], stages: Sequence[Stage]) -> None:
    known = dict.fromkeys(name for stage in stages for name in _names(stage))
    for name in rates:
        if name not in known:
            raise RecipeError(f"--rate {name}: the recipe has no such stage; it has {', '.join(known)}")
