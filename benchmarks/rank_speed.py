"""All retrieval figures of 5,000 images and 25,000 captions, over a full torch sort and eccv_caption's way.

512 components, five captions an image, both ways, from vectors in memory to the figures: R@K, mean and
median rank, mAP@R, R-Precision and mAP (eccv_caption has no ranks and no mAP). Each side runs in a
process of its own with all cores, and all must find the same figures; ours settles in float64 what
float32 leaves in doubt, the others have float32 alone. The ratio is that against the faster of the two.
Peak memory is the process's (half a gigabyte of it is torch), and what was added to it by computing. The
time for 100,000 x 500,000 is extrapolated from two sizes.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.outcome import Outcome, main, median
from benchmarks.rank_speed_sides import SIDES

WIDTH, CAPTIONS = 512, 5
#: What float32 may order otherwise.
TIE = 2e-3
LARGE = 100_000


def run(quick: bool) -> Outcome:
    """Figures per second of ours, over the faster of the others."""
    rounds, images = (1, 1_000) if quick else (5, 5_000)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_vectors(folder, images)
        for index in range(rounds):
            # Who is first alternates: a machine that slows down or speeds up favours nobody.
            told = {side: measure(side, folder) for side in list(SIDES)[:: -1 if index % 2 else 1]}
            check_same({side: each["figures"] for side, each in told.items()})
            for side, each in told.items():
                seconds[side].append(each["seconds"])
            if index == 0:
                for side, each in told.items():
                    print(f"  {side:<12} peak {each['peak']:,.0f} MiB, {each['grown']:,.0f} by computing")
            print("  " + ", ".join(f"{side} {values[-1]:.2f} s" for side, values in sorted(seconds.items())))
        growth(folder, images, statistics.median(seconds["ours"]))
    ratios = {
        side: [theirs / ours for theirs, ours in zip(values, seconds["ours"], strict=True)]
        for side, values in seconds.items()
        if side != "ours"
    }
    nearest = min(ratios, key=lambda side: statistics.median(ratios[side]))
    for side, values in ratios.items():
        print(f"  against {side}: {statistics.median(values):.3g}")
    return Outcome("rank_speed", median(ratios[nearest]), 5.0, nearest)


def write_vectors(folder: Path, images: int) -> None:
    """Captions near their images, and none of them unmistakable."""
    random = np.random.default_rng(7)
    owners = np.repeat(np.arange(images), CAPTIONS)
    centres = random.standard_normal((images, WIDTH)).astype(np.float32)
    texts = centres[owners] + 4 * random.standard_normal((len(owners), WIDTH), np.float32)
    for name, rows in (("images", centres), ("texts", texts)):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.save(folder / f"{name}.npy", unit.astype(np.float16))
    np.save(folder / "owners.npy", owners)


def measure(side: str, folder: Path) -> dict[str, Any]:
    """Run one side."""
    command = [sys.executable, "-m", "benchmarks.rank_speed_sides", side, str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    told: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return told


def check_same(figures: dict[str, dict[str, float]]) -> None:
    """All sides that have a figure find the same, but for near ties."""
    for side, made in figures.items():
        for name, value in made.items():
            if not math.isclose(value, figures["ours"][name], rel_tol=TIE, abs_tol=TIE):
                raise SystemExit(f"{side} finds {name} = {value}, ours {figures['ours'][name]}")


def growth(folder: Path, images: int, seconds: float) -> None:
    """How ours grows with the number of pairs, and what a large set would take."""
    write_vectors(folder, 2 * images)
    told = measure("ours", folder)
    power = math.log(told["seconds"] / seconds, 4)
    hours = told["seconds"] * (LARGE / (2 * images)) ** (2 * power) / 3600
    print(
        f"  {2 * images:,} x {2 * images * CAPTIONS:,}: {told['seconds']:.1f} s, {told['grown']:,.0f} MiB by "
        f"computing; (images x captions)^{power:.2f}; {LARGE:,} x {LARGE * CAPTIONS:,} by that: {hours:.2f} h"
    )


if __name__ == "__main__":
    main(run)
