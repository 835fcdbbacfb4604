"""The settings of a run: one frozen class per section of a recipe; unknown keys are refused."""

from engine.recipe.analysis import Cluster, Polysemy, Sample
from engine.recipe.embedding import Embed
from engine.recipe.evaluation import Calibration, Difficulty, Evaluate, Pairs, Preference, TestSet
from engine.recipe.generators import Generator, OpenAI, Scripted, Vllm
from engine.recipe.inputs import Images, Run
from engine.recipe.pool import Actors, Pool
from engine.recipe.reading import dump_recipe, load_recipe, parse_recipe
from engine.recipe.stages import Associate, Caption, Describe, Sampling, Stage, VQAScore
from engine.recipe.whole import Recipe

__all__ = [
    "Actors",
    "Associate",
    "Calibration",
    "Caption",
    "Cluster",
    "Describe",
    "Difficulty",
    "Embed",
    "Evaluate",
    "Generator",
    "Images",
    "OpenAI",
    "Pairs",
    "Polysemy",
    "Pool",
    "Preference",
    "Recipe",
    "Run",
    "Sample",
    "Sampling",
    "Scripted",
    "Stage",
    "TestSet",
    "VQAScore",
    "Vllm",
    "dump_recipe",
    "load_recipe",
    "parse_recipe",
]
