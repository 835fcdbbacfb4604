"""Runs to fine-tune on: mined by hand, trained as users do it, watched and killed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from safetensors.numpy import load_file

from engine.recipe import load_recipe
from engine.rundir import RunDirectory
from tests import command
from tests.export.runs import mine_by_hand
from tests.process import Run
from tests.training.tiny import write_clip

IMAGES = 48


def write_images(directory: Path, count: int, broken: Sequence[int] = (), side: int = 20) -> Path:
    """A folder of noise, each picture another."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    for index in range(count):
        pixels = random.integers(0, 255, (side, side, 3), np.uint8)
        file = directory / f"{index:04d}.png"
        Image.fromarray(pixels).save(file)
        if index in broken:
            file.write_bytes(file.read_bytes()[:200] + bytes(50))
    return directory


def picture(side: int = 20) -> Image.Image:
    """One more picture of noise."""
    return Image.fromarray(np.random.default_rng(9).integers(0, 255, (side, side, 3), np.uint8))


def mined(
    root: Path, part_rows: int = 10, count: int = IMAGES, broken: Sequence[int] = (), **finetune: Any
) -> Path:
    """A recipe whose run, root/run, has been mined; returns the recipe."""
    images, model = write_images(root / "images", count, broken), write_clip(root / "clip")
    recipe = {
        "images": {"source": "folder", "uri": str(images)},
        "run": {"out": str(root / "run"), "seed": 3, "part_rows": part_rows},
        "generators": {"words": {"backend": "scripted"}},
        "describe": {"generator": "words"},
        "associate": {"generator": "words"},
        "caption": {"generator": "words"},
        "finetune": {
            "method": "full",
            "model": model,
            "batch": 16,
            "epochs": 4,
            "learning_rate": 1e-3,
            "checkpoint_every": 3,
            "validate_every": 10,
            "log_every": 1,
            "data": {"validation": 0.2},
            **finetune,
        },
    }
    path = root / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    mine_by_hand(RunDirectory.at(str(root / "run")), load_recipe(path))
    return path


def start(recipe: Path, *arguments: str) -> Run:
    """Start `connote finetune` as a process of its own."""
    return Run("jobs.finetune", recipe, *arguments)


def finish(recipe: Path, *arguments: str, status: int = 0) -> str:
    """Train to the end, in this process; what was printed."""
    return command.finish("finetune", recipe, *arguments, status=status)


def weights(root: Path, name: str = "full") -> dict[str, Any]:
    """The trained model's weights."""
    directory = root / "run" / "models" / name
    file = "open_clip_model.safetensors" if name in ("full", "lora") else "method.safetensors"
    return load_file(directory / file)
