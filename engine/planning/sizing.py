"""How many actors each pool of a recipe has, so that of those that are `auto` none waits for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from engine.errors import RecipeError
from engine.planning.estimate import Settings, estimate
from engine.planning.figures import Figure, Origin
from engine.planning.measured import Measurements
from engine.planning.placing import Demand, Node, place
from engine.recipe import Recipe
from engine.stages import Stage
from engine.stages.groups import engine_settings, group_name, group_stages

#: Of the node that stands for a whole cluster of which only the GPUs are known.
_ANY_CPUS = 1e6


def demands(
    recipe: Recipe, stages: Sequence[Stage], measurements: Callable[[], Measurements]
) -> tuple[list[Demand], str]:
    """What each pool wants of a cluster, in order, and by which ratio those that are `auto` share it.

    The ratio is that of their `share`; without one, of the time that a device takes for one image, as an
    earlier session measured it, or as this package assumes it; where nobody knows that, they have as many
    devices each.

    Args:
        recipe: says how many actors, or `auto`.
        stages: the recipe's.
        measurements: of earlier runs; called only if they decide something.

    Raises:
        RecipeError: of several pools that are `auto` some have a `share` and some have none.
    """
    pools = {group_name(group): engine_settings(recipe, group[0].engine) for group in group_stages(stages)}
    auto = {name: settings for name, settings in pools.items() if settings.actors.auto}
    weights, told = _weights(recipe, stages, measurements, auto)
    wanted = []
    for name, settings in pools.items():
        actors = settings.actors
        wanted.append(
            Demand(
                name,
                settings.cpus,
                settings.gpus,
                actors.least,
                actors.most,
                weights.get(name, 1.0),
                settings.gpu_type,
            )
        )
    return wanted, told


def on_gpus(wanted: Sequence[Demand], gpus: float) -> dict[str, int]:
    """How many actors those pools would have on so many GPUs whose number the cluster decides, by name."""
    bounded = [pool if pool.gpus else replace(pool, most=pool.least) for pool in wanted]
    types = frozenset(pool.gpu_type for pool in wanted if pool.gpu_type)
    counts = place([Node(_ANY_CPUS, gpus, types)], bounded)
    auto = [
        (pool, count) for pool, count in zip(wanted, counts, strict=True) if pool.gpus and pool.most is None
    ]
    return {pool.name: max(count, pool.least) for pool, count in auto}


def _weights(
    recipe: Recipe,
    stages: Sequence[Stage],
    measurements: Callable[[], Measurements],
    auto: Mapping[str, Settings],
) -> tuple[Mapping[str, float], str]:
    shares = {name: settings.share for name, settings in auto.items() if settings.share is not None}
    if shares and len(shares) < len(auto):
        without = ", ".join(name for name in auto if name not in shares)
        raise RecipeError(
            f"share: {without} has none, and other pools have; give one to each that is `auto`, or to none"
        )
    if shares:
        return shares, "as `share` says"
    if len(auto) < 2:
        return {}, ""
    plan = estimate(recipe, stages, Figure(1, Origin.given), {}, measurements())
    seconds = {pool.name: pool.hours * pool.devices for pool in plan.pools if pool.hours}
    if not auto.keys() <= seconds.keys():
        return {}, "evenly, since nobody knows the stages' rates"
    rates = [stage.rate for stage in plan.stages if stage.pool.name in auto and stage.rate]
    if all(rate.origin is Origin.measured for rate in rates):
        return seconds, "by the rates that the last session measured"
    return seconds, "by assumed rates; `share` says it better"
