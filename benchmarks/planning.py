"""What planning costs as runs grow: catalog, plan, status and resume of 1, 10 and 100 million samples.

The runs are made up (`benchmarks/planning_run.py`): tars of 10,000 samples each with a catalog table in the
engine's own format, three stages that have committed every second part, notes of failures beside every tenth
of these. Each step runs in a process of its own: `shard` catalogs one tar; `catalog` finds that nothing
changed; `plan` cuts the catalog into parts anew; `status` is what `connote status` computes and `resume` all
that a run does in its driver until its first part is read, Ray Data's read tasks included. `bare` reads the
same directories and the catalog's footers by os.scandir and pyarrow alone. `connote status`, and `connote
run` until the first part is committed, are the commands as they are typed, with Python's start and Ray's.

The first ratio is of growth: ten times the processor time, or the memory beside imports, of a run over that
of one ten times as large, the worst of all steps. The second is 30 s over a `connote status` of 100 million
samples, where so many are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.outcome import Outcome, conclude
from benchmarks.planning_steps import GROWING, Spent, next_part, peak_mib

GOAL_STATUS_S, GOAL_SAMPLES = 30, 100_000_000
#: Of a run with 10,000 samples a shard: what its files take on the disk, for each sample.
BYTES_A_SAMPLE, FILES_A_SAMPLE = 80, 0.01
#: By step, what it took at each number of samples.
Measured = dict[str, dict[int, Spent]]


def run(sizes: list[int], rounds: int, shard_rows: int | None = None) -> list[Outcome]:
    """Growth of processor time and memory, and the seconds of one status at 100 million samples."""
    with tempfile.TemporaryDirectory() as name:
        check_room(Path(name), sum(sizes))
        for samples in sizes:
            make(Path(name) / str(samples), samples, shard_rows)
        measured = measure({samples: Path(name) / str(samples) / "run" for samples in sizes}, rounds)
    outcomes = [Outcome("planning", growth(measured), 0.8, "linear_growth")]
    if most := measured["connote status"].get(GOAL_SAMPLES):
        against = "30_s_at_100_million_samples"
        outcomes.append(Outcome("planning_status", GOAL_STATUS_S / most.wall, 1.0, against))
    return outcomes


def check_room(place: Path, samples: int) -> None:
    """Stop if the disk has no room for the runs' files."""
    room, found = shutil.disk_usage(place).free, os.statvfs(place)
    if room < BYTES_A_SAMPLE * samples or (found.f_files and found.f_favail < FILES_A_SAMPLE * samples):
        raise SystemExit(
            f"planning: {samples:,} samples need {BYTES_A_SAMPLE * samples / 1e9:.1f} GB and "
            f"{FILES_A_SAMPLE * samples:,.0f} files in {place.parent}; set TMPDIR to another disk, or take "
            "fewer --samples"
        )


def make(root: Path, samples: int, shard_rows: int | None) -> None:
    """Make a run, in a process of its own so that this one stays small."""
    told = child(
        "benchmarks.planning_run", str(root), str(samples), *([str(shard_rows)] if shard_rows else [])
    )
    print(
        f"  {samples:,} samples in {told['shards']:,} shards and {told['parts']:,} parts, "
        f"made in {sum(told['seconds'].values()):.0f} s",
        flush=True,
    )


def measure(runs: dict[int, Path], rounds: int) -> Measured:
    """Take every step on every run; of several rounds the medians."""
    found: Measured = {}
    for step in ("shard", "catalog", "plan", "status", "resume", "bare", "connote status", "connote run"):
        for samples, directory in runs.items():
            spent = median([take(step, directory) for _ in range(rounds)])
            found.setdefault(step, {})[samples] = spent
            print(
                f"  {step:<14} {samples:>11,} samples: {spent.wall:7.2f} s, processors {spent.cpu:6.2f} s, "
                f"peak {spent.peak:4.0f} MiB"
                + (f", {spent.grown:.0f} beside imports" if spent.grown else ""),
                flush=True,
            )
    return found


def take(step: str, directory: Path) -> Spent:
    """Take one step once."""
    if step == "connote status":
        return status_command(directory)
    if step == "connote run":
        return run_command(directory)
    return Spent(**child("benchmarks.planning_steps", step, str(directory)))


def child(*command: str) -> Any:
    """What a module of this package printed, as JSON; what it wrote to stderr is shown if it failed."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"planning: {' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def status_command(directory: Path) -> Spent:
    """`connote status`, from the start of Python to its end."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.command", "status", str(directory)], stdout=subprocess.DEVNULL
    )
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"planning: connote status failed with status {process.returncode}")
    wall, peak = time.perf_counter() - started, used.ru_maxrss / 1024
    return Spent(wall, used.ru_utime + used.ru_stime, peak)


def run_command(directory: Path, limit_s: float = 600) -> Spent:
    """`connote run` until the first part that was left is committed in all stages: its driver's figures."""
    wanted, recipe, started = next_part(directory), str(directory / "recipe.yaml"), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.command", "run", recipe],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not wanted.exists():
            if process.poll() is not None or time.perf_counter() - started > limit_s:
                raise SystemExit(f"planning: connote run has not committed {wanted.name}")
            time.sleep(0.02)
        wall, peak = time.perf_counter() - started, peak_mib(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = -signal.SIGTERM
    return Spent(wall, used.ru_utime + used.ru_stime, peak)


def median(rounds: list[Spent]) -> Spent:
    """The median of each figure."""
    figures = ([getattr(spent, name) for spent in rounds] for name in ("wall", "cpu", "peak", "grown"))
    return Spent(*map(statistics.median, figures))


def growth(measured: Measured) -> float:
    """The worst of all steps: how much less than linearly its processor time and memory grow; 1 is linear."""
    found = {}
    for step in GROWING:
        for (less, small), (more, large) in pairwise(sorted(measured[step].items())):
            for figure in ("cpu", "grown"):
                ratio = more / less * getattr(small, figure) / max(getattr(large, figure), 1e-9)
                found[f"{figure} of {step} from {less:,} to {more:,}"] = ratio
    worst = min(found, key=lambda name: found[name])
    print(f"  nearest to linear: {worst}")
    return found[worst]


def main() -> None:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=run.__doc__)
    parser.add_argument("--quick", action="store_true", help="0.1 and 1 million samples, one round")
    parser.add_argument("--samples", type=int, nargs="+", help="numbers of samples, in multiples of 10,000")
    arguments = parser.parse_args()
    usual = [100_000, 1_000_000] if arguments.quick else [1_000_000, 10_000_000, 100_000_000]
    conclude(run(sorted(arguments.samples or usual), rounds=1 if arguments.quick else 3))


if __name__ == "__main__":
    main()
