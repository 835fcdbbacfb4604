"""The fine-tuning job on Ray: collect the pairs, start the workers, start them again when some die."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

import ray

from engine.catalog import first_planned
from engine.errors import ConnoteError, StorageError
from engine.export.mined import open_run
from engine.flow.catalog import refresh_catalog
from engine.flow.cluster import cluster
from engine.flow.explain import explain
from engine.flow.reach import check_reach
from engine.lease import held
from engine.planning.placing import Demand
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.stages import build_stages
from engine.training.board import told
from engine.training.collecting import collect_pairs
from engine.training.job import Job
from engine.training.log_services import check_services
from engine.training.model_directory import ModelDirectory
from engine.training.seats import Seats, give_back, resources, room
from engine.training.settings_file import Begun
from engine.training.start import check_start

#: How often Ray tries for a minute to place a fixed number of workers before that counts as a failure.
_STARTS = 4


def finetune(
    recipe: Recipe,
    run: RunDirectory,
    *,
    address: str | None = None,
    verbose: bool = False,
    wait: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Train the model of the section `finetune`, going on where an earlier run stopped.

    Args:
        recipe: with the section.
        run: whose images and captions are trained on.
        address: a Ray cluster; by default RAY_ADDRESS or a Ray of this machine.
        verbose: show Ray's and the workers' logs.
        wait: for another command that trains this model, and for nodes that the cluster lacks.
        say: takes the messages for the user.

    Returns:
        Lines that say where the model lies and what it reaches.

    Raises:
        RecipeError: the settings differ from those this model's training began with, or cannot be
            met here; no checkpoint has been changed.
        RunHeld: another command trains this model, or lays out the run that it is trained on.
        StorageError: the run directory fails, the loss is no number, or workers keep dying; the
            checkpoints are kept.
    """
    settings = recipe.finetune
    assert settings is not None
    place = ModelDirectory.of(run, settings)
    now = Begun(settings, recipe.run.seed, recipe.images.max_pixels)
    place.check(now)
    check_services(settings)
    if not place.begun():
        check_start(settings)
    if place.finished():
        return place.lines()
    # Of its own, not the run's: a run may be mined further while models are trained on it.
    with held(place.directory, "connote finetune", wait=wait, say=say):
        place.check(now)  # as whoever was waited for has left it
        if not place.finished():
            _train_on_ray(recipe, run, place, now, address, verbose, wait, say)
    return place.lines()


def _train_on_ray(
    recipe: Recipe,
    run: RunDirectory,
    place: ModelDirectory,
    now: Begun,
    address: str | None,
    verbose: bool,
    wait: bool,
    say: Callable[[str], None],
) -> None:
    settings, seed = recipe.finetune, recipe.run.seed
    assert settings is not None
    reserved = Demand("finetune", settings.cpus, settings.gpus, settings.worker_bounds[0])
    with cluster(address, [reserved], verbose, wait=wait, say=say):
        plan = run.read_plan()
        check_reach(address, place.directory, None if plan is None else first_planned(run.catalog, plan))
        if not place.begun():
            now.write(place.settings)  # first, since it misses a model that is not there
            _catalog(recipe, run, wait, say)
            collect_pairs(open_run(run, recipe), place.pairs, settings, seed, say)
        _train(Job(settings, seed, run, place, recipe.images.max_pixels), say)


def _catalog(recipe: Recipe, run: RunDirectory, wait: bool, say: Callable[[str], None]) -> None:
    """Plan a run that mines nothing, anew: its images and the captions they came with."""
    mines = run.read_plan() is not None and build_stages(run.read_recipe())
    if not mines and not build_stages(recipe):
        with held(run.root, "connote finetune", wait=wait, say=say):
            plan = refresh_catalog(recipe, run, lambda _: None, say, False)
            run.write_recipe(recipe)
            run.write_plan(plan)


def _train(job: Job, say: Callable[[str], None]) -> None:
    """Run the workers until they are through; a worker that dies costs what followed the last checkpoint.

    They also come back with a checkpoint when the cluster has room for more of them.
    """
    settings, failures, seen = job.settings, 0, set(job.place.whole())
    while not job.place.finished():
        try:
            workers = room(settings, say)
            with told(say) as board:
                _fit(job, board, workers)
        except ray.train.TrainingFailedError as error:
            reason = _reason(error)
            if isinstance(reason, ConnoteError):
                raise reason from error
            # Not by the highest step: a damaged checkpoint may have it, and those before it come anew.
            whole = set(job.place.whole())
            failures, seen = 1 if whole - seen else failures + 1, seen | whole
            if failures > settings.max_failures:
                raise StorageError(
                    f"finetune: workers failed {failures} times without reaching another checkpoint "
                    f"({reason}); what they had is kept, run the same command to go on"
                ) from error
            say(f"a worker was lost ({reason}); training goes on from the last checkpoint")


def _fit(job: Job, board: Any, workers: int) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    class _Trainer(TorchTrainer):  # type: ignore[misc]
        def _register_sigint_handler(self, controller: Any) -> None:
            """Leave Ctrl-C to the command: Ray's handler ends the process with status 0."""

    settings = job.settings
    # Paths of a recipe are relative to where the command runs, also for the workers.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    least, most = settings.worker_bounds
    more = f"more-{uuid.uuid4().hex}"
    filesystem, path = (job.place.directory / "ray").resolve()
    trainer = _Trainer(
        _work,
        train_loop_config={"job": job, "board": board, "more": more},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=settings.gpus > 0, resources_per_worker=resources(settings)
        ),
        run_config=RunConfig(
            storage_path=path,
            storage_filesystem=filesystem,
            name="train",
            # Ray would try again with as many workers, where there may be room for fewer.
            failure_config=FailureConfig(
                controller_failure_limit=_STARTS if least == most else 0,
                max_preemption_failures=-1 if least == most else 0,
            ),
        ),
    )
    try:
        trainer.fit()
    finally:
        give_back(more, most - workers)


def _work(config: dict[str, Any]) -> None:
    """What one worker does; runs in its process."""
    import torch
    from ray.train import get_context
    from ray.train.torch import get_device

    from engine.training.work import work
    from engine.training.world import World

    job, board, context = config["job"], config["board"], get_context()
    if not job.settings.gpus:
        torch.set_num_threads(max(1, round(job.settings.cpus)))
    world = World(context.get_world_rank(), context.get_world_size(), torch.device(get_device()))
    # Asked for when the workers have their places, so that these are not taken from them.
    more = job.settings.worker_bounds[1] - world.size if world.first else 0
    seats = Seats(more, resources(job.settings), config["more"])
    work(job, world, lambda line: board.tell.remote(line), lambda: seats.granted() > 0)


def _reason(error: BaseException) -> BaseException | str:
    """The user's message if a worker raised one, else that one is gone, else the first failure."""
    failures = getattr(error, "worker_failures", {}) or {0: getattr(error, "controller_failure", error)}
    reasons = {rank: explain(getattr(each, "_base_exc", each)) for rank, each in failures.items()}
    told = [reason for reason in reasons.values() if isinstance(reason, ConnoteError)]
    # The others fail, too, since one no longer answers.
    gone = [rank for rank, each in failures.items() if hasattr(each, "health_check_failure")]
    if not told and gone:
        return f"the process of worker {' and '.join(map(str, gone))} is gone, by itself or with its node"
    return [*told, *reasons.values()][0]
