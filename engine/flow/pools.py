"""Which stages run in one pool of actors, and how many actors it has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from engine.planning import measured
from engine.planning.placing import Demand
from engine.planning.sizing import demands
from engine.recipe import Embed, OpenAI, Recipe, Scripted, Vllm
from engine.rundir import RunDirectory
from engine.stages import Stage
from engine.stages.groups import engine_settings, group_name, group_stages
from engine.weights import Weights, weights_of

#: How glibc serves processes that compute with encoders: from one heap that it never gives back.
#: Otherwise each layer's result is memory fresh from the kernel, which has to clear it: a sixth of
#: the time of a ViT-B-32 on two cores (`benchmarks.embed_speed`).
_KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass(frozen=True)
class Pool:
    """Consecutive stages that compute with the same engine share its actors, weights and caches."""

    name: str
    settings: Vllm | OpenAI | Scripted | Embed
    run: RunDirectory
    stages: tuple[Stage, ...]
    before: tuple[Stage, ...]  # the stages of the pools before
    images_needed_after: bool
    last: bool
    retry_failed: bool
    demand: Demand  # of the cluster
    weights: tuple[Weights, ...] = ()  # that an actor fetches, as this machine sees it
    actors: int = 1  # that it begins with
    most: int = 1  # that it grows to

    @property
    def engine(self) -> str:
        """What its stages compute with, by its place in the recipe."""
        return self.stages[0].engine

    @property
    def embeds_on_processors(self) -> bool:
        """Whether encoders compute in its actors' processes, on the processors that decode their images."""
        return isinstance(self.settings, Embed) and not self.settings.gpus

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its actors' processes, without those that the user has set."""
        if not self.embeds_on_processors:
            return {}
        return {name: value for name, value in _KEEP_MEMORY.items() if name not in os.environ}

    def of_size(self, actors: int) -> Pool:
        """The same pool, beginning with so many actors; it grows where the recipe names a greatest number."""
        asked = self.settings.actors
        start = max(actors, asked.least)
        return replace(self, actors=start, most=start if asked.max == "auto" else max(start, asked.max))


def plan_pools(
    recipe: Recipe, run: RunDirectory, stages: Sequence[Stage], retry_failed: bool
) -> tuple[list[Pool], str]:
    """Group the stages into pools, in order, each with the fewest actors that the recipe lets it have.

    Returns:
        The pools, and how those that are `auto` share a cluster, in words.
    """
    wanted, shared = demands(recipe, stages, partial(measured, run))
    groups = group_stages(stages)
    pools, before = [], list[Stage]()
    for index, (group, demand) in enumerate(zip(groups, wanted, strict=True)):
        later = [stage for following in groups[index + 1 :] for stage in following]
        pool = Pool(
            name=group_name(group),
            settings=engine_settings(recipe, group[0].engine),
            run=run,
            stages=group,
            before=tuple(before),
            images_needed_after=any(stage.sees_images for stage in later),
            last=not later,
            retry_failed=retry_failed,
            demand=demand,
            weights=tuple(weights_of(engine_settings(recipe, group[0].engine))),
        )
        pools.append(pool.of_size(demand.least))
        before += group
    return pools, shared
