"""Sets, models and recipes that the benchmarks of training share."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.embed_speed import write_images

#: Pairs of one step.
BATCH = 64
IMAGES = 512
ARCHITECTURE = "ViT-S-32"
#: Steps between two lines of the log.
EVERY = 2


def write_set(root: Path) -> None:
    """JPEGs of 640 x 480 with a caption each, as open_clip's CSV loader reads them, and a model."""
    write_images(root / "images", (640, 480), IMAGES)
    with (root / "pairs.tsv").open("w") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["filepath", "title"])
        for index, path in enumerate(sorted((root / "images").glob("*.jpg"))):
            table.writerow([str(path), f"a scene with the number {index} in it"])
    write_model(root / "model")


def write_model(directory: Path) -> None:
    """A model with random weights, as open_clip publishes one."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    directory.mkdir()
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE)
    save_file(model.state_dict(), directory / "weights.safetensors")
    settings = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": {}}
    (directory / "config.json").write_text(json.dumps(settings))


def start(root: Path, run: str, **finetune: Any) -> subprocess.Popen[bytes]:
    """Start the fine-tuning job on the set, as a user does."""
    recipe = {
        "images": {"source": "tsv", "uri": str(root / "pairs.tsv")},
        "run": {"out": str(root / run)},
        "finetune": {
            "model": f"open_clip:{root}/model/config.json/weights.safetensors",
            "data": {"captions": ["original"], "validation": 0},
            "batch": BATCH,
            "micro_batch": BATCH,
            "checkpoint_every": 10**6,
            "log_every": EVERY,
            "decode_threads": 1,
            **finetune,
        },
    }
    path = root / f"{run}.yaml"
    path.write_text(json.dumps(recipe))
    return subprocess.Popen([sys.executable, "-m", "jobs.finetune", str(path)], stdout=subprocess.PIPE)


def train(root: Path, run: str, **finetune: Any) -> tuple[float, float]:
    """Pairs/s of a training, and its share of time waiting for data: medians without the first line."""
    finish(start(root, run, **finetune))
    return figures(root, run)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a training's end."""
    process.communicate()
    if process.returncode:
        raise SystemExit(f"the training ended with status {process.returncode}")


def figures(root: Path, run: str) -> tuple[float, float]:
    """See `train`."""
    with (root / run / "models/full/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("samples/s")][1:]
    return (
        statistics.median(float(row["samples/s"]) for row in rows),
        statistics.median(float(row["waiting"]) for row in rows),
    )
