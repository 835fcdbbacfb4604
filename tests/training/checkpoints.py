"""Checkpoints of a network of two numbers, each of which tells its step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.storage import Location, locate
from engine.training.checkpoint import Checkpoint, Checkpoints
from engine.training.checkpoint_files import listed, order

FILES = ["checkpoint.json", "state.json", "state.safetensors", "weights.safetensors"]


def weights_at(step: int) -> dict[str, Tensor]:
    return {"w": torch.full((3,), float(step)), "v": torch.tensor(step)}


def state_at(step: int) -> dict[str, Any]:
    return {"optimizer": {"state": {0: {"m": torch.full((2,), step / 2)}}}, "position": {"step": step}}


def save(checkpoints: Checkpoints, step: int, score: float | None = None) -> None:
    checkpoints.save(step, weights_at(step), state_at(step), score)


def saved(directory: Path, keep: int, *steps: int, say: Callable[[str], None] = print) -> Checkpoints:
    checkpoints = Checkpoints(locate(directory), keep, say)
    for step in steps:
        save(checkpoints, step)
    checkpoints.wait()
    return checkpoints


def newest_step(directory: Location) -> int:
    """The highest step of what says that it is whole; -1 if there is none."""
    return max((order(name)[0] for name, whole in listed(directory).items() if whole), default=-1)


def holds(checkpoint: Checkpoint | None, step: int) -> bool:
    """Whether it is the whole checkpoint of a step."""
    return (
        checkpoint is not None
        and checkpoint.step == step == checkpoint.state["position"]["step"]
        and torch.equal(checkpoint.weights["w"], weights_at(step)["w"])
        and torch.equal(checkpoint.state["optimizer"]["state"][0]["m"], torch.full((2,), step / 2))
    )


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []
