"""Fine-tuning through the engine, over open_clip's own trainer on the same data.

A ViT-S-32 of open_clip with random weights (full fine-tuning, float32), one worker on two threads, batches of
64 pairs, 512 JPEGs of 640 x 480 with a caption each, two decoding threads or worker processes. Both sides
take AdamW, the same schedule and InfoNCE; neither validates nor keeps checkpoints meanwhile. Each prints its
own rate every few steps, of which the first is left out (imports, first reads), and the median counts. The
engine's share of time spent waiting for data is printed, too: less than 5 % is asked for.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.embed_speed import write_images
from benchmarks.outcome import Outcome, main, median

BATCH, THREADS, IMAGES, EVERY = 64, 2, 512, 2
ARCHITECTURE = "ViT-S-32"


def run(quick: bool) -> Outcome:
    """Pairs/s of the engine, against open_clip_train."""
    rounds, epochs = (1, 1) if quick else (3, 2)
    ratios, waits = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_images(root / "images", (640, 480), IMAGES)
        write_table(root)
        write_model(root / "model")
        for index in range(rounds):
            ours, waiting = engine(root, index, epochs)
            theirs = open_clip_train(root, index, epochs)
            print(f"  engine {ours:.2f}, open_clip_train {theirs:.2f} pairs/s; waiting {100 * waiting:.1f} %")
            ratios.append(ours / theirs)
            waits.append(waiting)
    print(f"  share of time waiting for data: {100 * statistics.median(waits):.1f} % (asked for: below 5 %)")
    return Outcome("train_speed", median(ratios), 1.0, "open_clip_train")


def write_table(root: Path) -> None:
    """The pairs as open_clip's CSV loader reads them."""
    with (root / "pairs.tsv").open("w") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["filepath", "title"])
        for index, path in enumerate(sorted((root / "images").glob("*.jpg"))):
            table.writerow([str(path), f"a scene with the number {index} in it"])


def write_model(directory: Path) -> None:
    """The model with random weights, as open_clip publishes one."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    directory.mkdir()
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE)
    save_file(model.state_dict(), directory / "weights.safetensors")
    settings = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": {}}
    (directory / "config.json").write_text(json.dumps(settings))


def engine(root: Path, index: int, epochs: int) -> tuple[float, float]:
    """Pairs/s of the engine, and its share of time waiting for data."""
    recipe = {
        "images": {"source": "tsv", "uri": str(root / "pairs.tsv")},
        "run": {"out": str(root / f"run{index}")},
        "finetune": {
            "model": f"open_clip:{root}/model/config.json/weights.safetensors",
            "data": {"captions": ["original"], "validation": 0},
            "batch": BATCH,
            "micro_batch": BATCH,
            "epochs": epochs,
            "checkpoint_every": 10**6,
            "log_every": EVERY,
            "cpus": THREADS,
            "decode_threads": 2,
        },
    }
    (root / "recipe.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "jobs.finetune", str(root / "recipe.yaml")]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    with (root / f"run{index}/models/full/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("samples/s")]
    rates, waits = [float(row["samples/s"]) for row in rows], [float(row["waiting"]) for row in rows]
    return statistics.median(rates[1:]), statistics.median(waits[1:])


def open_clip_train(root: Path, index: int, epochs: int) -> float:
    """Pairs/s that open_clip's trainer logs."""
    options = {
        "--train-data": root / "pairs.tsv",
        "--dataset-type": "csv",
        "--csv-img-key": "filepath",
        "--csv-caption-key": "title",
        "--batch-size": BATCH,
        "--workers": 2,
        "--epochs": epochs,
        "--model": ARCHITECTURE,
        "--lr": 1e-5,
        "--wd": 0,
        "--warmup": 1,
        "--precision": "fp32",
        "--device": "cpu",
        "--log-every-n-steps": EVERY,
        "--save-frequency": 0,
        "--grad-clip-norm": 1.0,
        "--logs": root / f"logs{index}",
        "--report-to": "",
    }
    flat = [str(item) for pair in options.items() for item in pair]
    code = (
        f"import sys, torch; torch.set_num_threads({THREADS}); "
        "from open_clip_train.main import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *flat],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    rates = [float(found) for found in re.findall(r"Batch \(t\): [0-9.]+, ([0-9.]+)/s", done.stdout)]
    return statistics.median(rates[1:])


if __name__ == "__main__":
    main(run)
