"""Fine-tuning through the engine, over open_clip's own trainer on the same data.

A ViT-S-32 of open_clip with random weights (full fine-tuning, float32), one worker on two threads, batches of
64 pairs, 512 JPEGs of 640 x 480 with a caption each, two decoding threads or worker processes. Both sides
take AdamW, the same schedule and InfoNCE; neither validates nor keeps checkpoints meanwhile. Each prints its
own rate every few steps, of which the first is left out (imports, first reads), and the median counts. The
engine's share of time in which it does not wait for data is the second ratio: 95 % are asked for. Captions
have a dozen tokens; the engine computes no padding behind the longest of a batch, open_clip's trainer all 77.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.outcome import Outcome, main, median
from benchmarks.training_runs import ARCHITECTURE, BATCH, EVERY, train, write_set

THREADS = 2
#: The largest share of its time in which the engine may wait for data.
WAITING = 0.05


def run(quick: bool) -> list[Outcome]:
    """Pairs/s of the engine, against open_clip_train; and its share of time without waiting for data."""
    rounds = 1 if quick else 3
    ratios, waits = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_set(root)
        for index in range(rounds):
            ours, waiting = train(root, f"run{index}", cpus=THREADS, decode_threads=2)
            theirs = open_clip_train(root, index)
            print(f"  engine {ours:.2f}, open_clip_train {theirs:.2f} pairs/s; waiting {100 * waiting:.1f} %")
            ratios.append(ours / theirs)
            waits.append(waiting)
    return judge(ratios, waits)


def judge(ratios: list[float], waits: list[float]) -> list[Outcome]:
    """Of the rounds' ratios, and their shares of time waiting for data."""
    return [
        Outcome("train_speed", median(ratios), 1.0, "open_clip_train"),
        Outcome("train_speed_busy", median([1 - share for share in waits]), 1 - WAITING, "never_waiting"),
    ]


def open_clip_train(root: Path, index: int) -> float:
    """Pairs/s that open_clip's trainer logs."""
    options = {
        "--train-data": root / "pairs.tsv",
        "--dataset-type": "csv",
        "--csv-img-key": "filepath",
        "--csv-caption-key": "title",
        "--batch-size": BATCH,
        "--workers": 2,
        "--epochs": 1,
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
