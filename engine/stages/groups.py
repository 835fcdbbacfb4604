"""Which stages share a pool of actors: consecutive ones that compute with the same engine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from engine.recipe import Embed, OpenAI, Recipe, Scripted, Vllm
from engine.stages.stage import Stage

_LISTED = 3  # names of stages in a pool's name; more are counted


def group_stages(stages: Sequence[Stage]) -> list[tuple[Stage, ...]]:
    """The stages of each pool, in order."""
    return [tuple(group) for _, group in groupby(stages, key=lambda stage: stage.engine)]


def group_name(group: Sequence[Stage]) -> str:
    """What a pool is called in messages and in the summary: its engine and its stages."""
    names = [stage.name for stage in group]
    listed = ", ".join(names) if len(names) <= _LISTED else f"{len(names)} stages"
    return f"{group[0].engine.removeprefix('generators.')} ({listed})"


def engine_settings(recipe: Recipe, engine: str) -> Vllm | OpenAI | Scripted | Embed:
    """The recipe's settings of an engine, by its place there; see `Stage.engine`."""
    if recipe.embed and engine == "embed":
        return recipe.embed
    return recipe.generators[engine.removeprefix("generators.")]
