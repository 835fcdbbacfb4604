"""The end of a training run: average and interpolate the weights, measure, write model and card."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from engine.training.interpolation import best_share, interpolated
from engine.training.job import Job
from engine.training.model_card import DataFacts, model_card
from engine.training.pairs_file import Pairs
from engine.training.result import trained_weights, write_result
from engine.training.start import learned_levels, take_start
from engine.training.state import TrainingState, bare_method
from engine.training.validation import Validator, score
from engine.training.world import World

#: The weights that training began with, where they came from `finetune.start` and are needed at the end.
START = "start.safetensors"


def keep_start(job: Job, state: TrainingState) -> None:
    """Keep the weights of `finetune.start`, whose directory may change, for `interpolate` at the end."""
    if job.settings.start and job.settings.interpolate:
        kept = {name: value.detach().cpu().contiguous() for name, value in state.weights.items()}
        (job.place.directory / START).write_bytes(save_tensors(kept))


def finish(
    job: Job,
    state: TrainingState,
    total: int,
    pairs: Pairs,
    validator: Validator,
    world: World,
    tell: Callable[[str], None],
) -> None:
    """Write what training has made; `connote.json` comes last.

    Args:
        job, state, pairs, validator, world: of this worker; the state may be that of an earlier step.
        total: steps of the whole training.
        tell: takes lines for the user.
    """
    settings, method = job.settings, state.method
    with state.average.swapped() if state.average else nullcontext():
        about: dict[str, Any] = {"before": state.before, "steps": state.step, "bad_batches": state.bad}
        if state.step < total:
            about["steps_in_all"] = total
        about["workers"] = [{"from": step, "workers": size} for step, size in state.workers]
        if settings.interpolate and validator.levels:
            about["interpolation"] = _interpolate(job, state, validator, world)
            tell(f"the best share of the new weights is {about['interpolation']['share']:g}")
        about["validation"] = validator.scores(method) if validator.levels else {}
        if world.first:
            about = {**write_result(job.place.directory, method, settings), **about}
            if settings.method == "prefix":
                about["levels"] = learned_levels(settings)
            facts = DataFacts.of(pairs, settings.data.validation_images)
            card = model_card(settings, facts, about)
            (job.place.directory / "README.md").write_bytes(card.encode())
            job.place.finish(about)


def _interpolate(job: Job, state: TrainingState, validator: Validator, world: World) -> dict[str, Any]:
    """Put the best mixture of old and new weights into the method (WiSE-FT, Wortsman et al. 2022)."""
    tuned = {name: value.detach().clone() for name, value in state.weights.items()}
    start = _start_of(job, tuned, world)

    def put(share: float) -> None:
        with torch.no_grad():
            for name, value in interpolated(start, tuned, share).items():
                state.weights[name].copy_(value)

    def reached(share: float) -> float:
        put(share)
        return score(validator.scores(state.method))

    share, tried = best_share(job.settings.interpolate, reached)
    put(share)
    return {"share": share, "tried": tried}


def _start_of(job: Job, tuned: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """The weights before training; of LoRA's product of two, one is zero there and the other the same."""
    if job.settings.method == "lora":
        return {name: torch.zeros_like(value) if "lora_B" in name else value for name, value in tuned.items()}
    if job.settings.start and (job.place.directory / START).exists():
        kept = load_tensors((job.place.directory / START).read_bytes())
        return {name: value.to(world.device) for name, value in kept.items()}
    first = bare_method(job.settings, job.seed, world)
    if job.settings.start:  # trainings that began before it was kept
        take_start(trained_weights(first), job.settings, world, print)
    return {name: value.detach() for name, value in trained_weights(first).items()}
