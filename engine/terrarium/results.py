"""Six ways to fine-tune the embedded CLIP, side by side: ``python -m engine.terrarium.results DIRECTORY``.

It writes scenes, mines captions from them with the embedded model, trains every method on them with
several seeds, measures all on held-out scenes, and writes ``docs/results-terrarium.md``. What lies in
the directory is used again, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.maps.recalls import draw_recalls
from engine.recipe import Recipe, load_recipe
from engine.rundir import RunDirectory
from engine.storage import Location
from engine.terrarium.measure import COLUMNS, measure, measure_knower
from engine.terrarium.results_models import measure_model, open_encoder, prepare
from engine.terrarium.results_page import Measured, Results, page, reached
from engine.terrarium.write import write_shards

MODEL: Final = "open_clip:terrarium"
#: The scenes that are mined; held-out ones have another seed (`engine.terrarium.held_out`).
MINED_SEED: Final = 11
_RECIPE: Final = Path(__file__).parents[2] / "jobs" / "recipes" / "terrarium.yaml"
_NOT_RUN: Final = ("vqascore", "embed", "cluster", "sample", "polysemy", "difficulty", "evaluate")
_COMMON: Final[Mapping[str, Any]] = {"batch": 128, "micro_batch": 128, "checkpoint_every": 100}
#: Literal captions among the mined ones, and all levels of these: with the abstract ones alone, what
#: is known of the literal ones was forgotten.
_BOTH: Final[Mapping[str, Any]] = {"captions": ["original", "mined"]}
#: What each method is trained with, above its defaults. Those are meant for models that know every
#: word; this one meets most of them here first, which takes higher rates. Its images it knows: where
#: a method can, the image tower is left as it is.
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "full": {"learning_rate": 1e-3, "epochs": 4, "towers": ["text"], "data": _BOTH},
    "lora": {"learning_rate": 3e-3, "epochs": 2, "towers": ["text"], "data": _BOTH},
    "prefix": {"learning_rate": 1e-2, "epochs": 2},
    "pvse": {"learning_rate": 1e-3, "epochs": 2, "data": _BOTH},
    "pcme": {"learning_rate": 1e-3, "epochs": 2, "data": _BOTH},
    "dive": {"learning_rate": 1e-3, "epochs": 2, "data": _BOTH},
}


@dataclass(frozen=True)
class Plan:
    """What is made.

    Attributes:
        directory: holds scenes, run, models and what was measured.
        scenes: to mine.
        images: held-out scenes to search.
        methods: some of `SETTINGS`.
        seeds: training seeds of each method, from 0 on.
        settings: of the recipe, `key.key=value`; for a look, such as `finetune.max_steps=2`.
    """

    directory: Path
    scenes: int
    images: int
    methods: Sequence[str]
    seeds: int
    settings: Sequence[str] = ()


def make(plan: Plan) -> Results:
    """Mine, train and measure, using what is there.

    Raises:
        RecipeError, StorageError: as `engine.flow.mine.mine` and the training do.
    """
    run = mine_scenes(plan)
    before = open_encoder(MODEL)
    searched = prepare(plan.images, before)
    places = train(plan, run)
    methods = []
    for method, models in places.items():
        seeds = [measure_model(place, searched, plan.directory / "measured") for place in models]
        told = [json.dumps({**SETTINGS[method], **_COMMON}), *plan.settings]
        methods.append(Measured(method, seeds, ", then ".join(f"`{each}`" for each in told)))
    return Results(
        Measured("before", [measure(before, searched.pixels, searched.sets)]),
        Measured("knower", [measure_knower(searched.scenes, searched.sets)]),
        methods,
        plan.images,
    )


def recipe_of(plan: Plan, method: str | None = None, seed: int = 0) -> Recipe:
    """The recipe that mines, or with a section `finetune` the one that trains a method.

    Raises:
        RecipeError: a setting is wrong.
    """
    settings = [f"images.uri={_images(plan)}", f"run.out={_run(plan)}", "run.part_rows=64"]
    settings += [f"{section}=null" for section in _NOT_RUN]
    if method is None:
        return load_recipe(_RECIPE, settings)
    chosen = {"method": method, "model": MODEL, "name": f"{method}-{seed}", **_COMMON, **SETTINGS[method]}
    settings += [f"finetune={json.dumps(chosen)}", f"run.seed={seed}", *plan.settings]
    return load_recipe(_RECIPE, settings)


def mine_scenes(plan: Plan) -> RunDirectory:
    """Write the scenes and mine them, or what of both is missing."""
    from engine.flow.mine import mine

    if not _images(plan).exists():
        # Under another name until all of them are there.
        unfinished = _images(plan).with_name("unfinished")
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        write_shards(unfinished, plan.scenes, shard_rows=250, seed=MINED_SEED)
        unfinished.rename(_images(plan))
    recipe, run = recipe_of(plan), RunDirectory.at(str(_run(plan)))
    mine(recipe, run)
    return run


def train(plan: Plan, run: RunDirectory) -> dict[str, list[Location]]:
    """Train every method with every seed, or go on with it; where the finished models lie."""
    from engine.flow.cluster import cluster
    from engine.planning.placing import Demand

    places: dict[str, list[Location]] = {}
    with cluster(None, [Demand("finetune", cpus=1)], verbose=False):
        # Seed by seed: where it is stopped early, all methods have as many.
        for seed, method in itertools.product(range(plan.seeds), plan.methods):
            places.setdefault(method, []).append(finetune(recipe_of(plan, method, seed), run))
    return places


def finetune(recipe: Recipe, run: RunDirectory) -> Location:
    """Train the recipe's model on the run, or go on with it; where the finished model lies."""
    from engine.training.model_directory import ModelDirectory
    from engine.training.trainer import finetune as train_on_ray

    assert recipe.finetune is not None
    train_on_ray(recipe, run)
    return ModelDirectory.of(run, recipe.finetune).directory


def write_page(plan: Plan, results: Results, target: Path) -> None:
    """Write the page, and its figure beside it."""
    picture = target.with_suffix(".png")
    rows = [reached(results, each) for each in results.methods]
    marks = [reached(results, results.before), reached(results, results.knower)]
    title = "Held-out scenes found by their texts, before and after fine-tuning"
    picture.write_bytes(draw_recalls(list(COLUMNS), rows, marks, title, "R@5, text to image (%)"))
    target.write_text(page(results, _head(plan), picture.name), encoding="utf-8")


def _head(plan: Plan) -> str:
    options = f"--scenes {plan.scenes} --images {plan.images} --seeds {plan.seeds}"
    if list(plan.methods) != list(SETTINGS):
        options += f" --methods {' '.join(plan.methods)}"
    options += "".join(f" --set {setting}" for setting in plan.settings)
    return (
        "# Results on the terrarium: six ways to fine-tune\n\n"
        f"`{MODEL}` was trained on literal captions only. Here each method trains it further on the captions "
        f"that the engine mined from {plan.scenes:,} scenes with its embedded vision-language model, with "
        f"{plan.seeds} seeds; then {plan.images:,} scenes that nothing was mined from or trained on are "
        "searched by their texts, and the texts by their scenes. The settings are in the last table, not "
        "all methods are trained for as long: this tells what is had on a processor within minutes, and not "
        "what each method can reach. All of it is made by one command:\n\n"
        f"    python -m engine.terrarium.results DIRECTORY {options}"
    )


def _images(plan: Plan) -> Path:
    return plan.directory / f"{plan.scenes}-scenes" / "images"


def _run(plan: Plan) -> Path:
    return _images(plan).with_name("run")


def main() -> None:
    """Read the command line, make the results and write the page."""
    parser = argparse.ArgumentParser(description="Fine-tune the embedded CLIP by six methods and compare.")
    parser.add_argument("directory", type=Path, help="for scenes, run and models; used again")
    parser.add_argument("--scenes", type=int, default=1000, help="to mine (default 1000)")
    parser.add_argument("--images", type=int, default=500, help="held-out scenes (default 500)")
    parser.add_argument("--seeds", type=int, default=3, help="of each method (default 3)")
    parser.add_argument("--methods", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--set", action="append", default=[], dest="settings", help="section.key=value")
    parser.add_argument("--page", type=Path, default=Path("docs/results-terrarium.md"))
    options = vars(parser.parse_args())
    target = options.pop("page")
    plan = Plan(**options)
    write_page(plan, make(plan), target)
    print(f"wrote {target} and {target.with_suffix('.png')}")


if __name__ == "__main__":
    main()
