"""What training changes as it goes, and its way into checkpoints and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from engine.encoders.names import EncoderName
from engine.recipe.finetune import Finetune
from engine.training.ema import Average
from engine.training.load import load_backbone
from engine.training.method import Method
from engine.training.methods import build_method
from engine.training.optimization import build_optimizer, clip_gradients
from engine.training.result import trained_weights
from engine.training.start import take_start
from engine.training.stretches import Stretches
from engine.training.tensors import take
from engine.training.world import World


@dataclass
class TrainingState:
    """A method in training.

    Attributes:
        method, optimizer: what is trained, and by what.
        average: of the weights, where the recipe wants one.
        scaler: of the loss under float16.
        step: steps done; of them `epoch` whole epochs and `batch` batches of the next.
        bad: batches without a finite loss.
        before: what the model reached on the held-out images before training.
        workers: with how many workers it was trained, each from a step on.
    """

    method: Method
    optimizer: torch.optim.Optimizer
    average: Average | None
    scaler: torch.amp.GradScaler | None
    step: int = 0
    epoch: int = 0
    batch: int = 0
    bad: int = 0
    before: dict[str, float] = field(default_factory=dict)
    workers: Stretches = field(default_factory=list)

    @classmethod
    def fresh(
        cls, settings: Finetune, seed: int, world: World, tell: Callable[[str], None], started: bool = True
    ) -> TrainingState:
        """The state before the first step, the same on every worker.

        Args:
            settings, seed: the recipe's.
            world: the workers.
            tell: takes lines for the user.
            started: begin with the weights of `finetune.start`; without, a checkpoint is to follow.

        Raises:
            RecipeError: the model cannot be had, or cannot carry the method, or what `start` names.
        """
        method = bare_method(settings, seed, world)
        if settings.start and started:
            take_start(trained_weights(method), settings, world, tell)
        average = Average(trained_weights(method), settings.ema) if settings.ema else None
        half = settings.precision == "float16"
        scaler = torch.amp.GradScaler(world.device.type) if half else None
        return cls(method, build_optimizer(method, settings), average, scaler)

    @property
    def weights(self) -> dict[str, Parameter]:
        """The parameters that are trained, by name."""
        return trained_weights(self.method)

    def update(self, clip_norm: float | None) -> float | None:
        """Step by the gradients; returns their length, or None if it is no number and all is as it was."""
        weights = list(self.weights.values())
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(weights, clip_norm)
        if self.scaler:
            # What overflows in float16 is left out by the scaler, which then takes a smaller factor.
            self.scaler.step(self.optimizer)
            self.scaler.update()
            # At a factor below 1 nothing has overflowed: the gradient itself is no number.
            if not math.isfinite(norm):
                return norm if self.scaler.get_scale() >= 1 else None
        elif math.isfinite(norm):
            self.optimizer.step()
        else:
            return None
        self.method.settle()
        if self.average:
            self.average.update()
        return norm

    def kept(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint holds: the weights, and everything else.

        Of random numbers there is nothing to keep: each step draws from a seed of its own.
        """
        rest = {
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state() if self.average else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "position": {"step": self.step, "epoch": self.epoch, "batch": self.batch, "bad": self.bad},
            "before": self.before,
            "workers": [list(each) for each in self.workers],
        }
        return {name: value.detach() for name, value in self.weights.items()}, rest

    def take(self, weights: dict[str, Tensor], rest: dict[str, Any], origin: str) -> None:
        """Be what a checkpoint holds.

        Raises:
            StorageError: it is of another method or model.
        """
        take(self.weights, weights, origin)
        self.optimizer.load_state_dict(rest["optimizer"])
        if self.average and rest["average"] is not None:
            self.average.load(rest["average"])
        if self.scaler and rest["scaler"] is not None:
            self.scaler.load_state_dict(rest["scaler"])
        for name, value in rest["position"].items():
            setattr(self, name, value)
        self.before = rest["before"]
        # Checkpoints of older versions do not say.
        self.workers = [(step, size) for step, size in rest.get("workers", [])]


def bare_method(settings: Finetune, seed: int, world: World) -> Method:
    """The method over its model, with what it adds as the seed draws it."""
    torch.manual_seed(seed)
    backbone = load_backbone(EncoderName.parse(settings.model), world.device)
    return build_method(backbone, settings).to(world.device)
