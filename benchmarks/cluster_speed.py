"""The engine's fit on processors, over umap-learn and hdbscan as their documentation shows them.

Both lay out the same unit vectors of 512 components on a map and in a space of 5 dimensions, with the
same numbers of neighbours and the same sizes of clusters, one right after the other in one process,
after a small run of each: numba's compiling counts for neither. The ratio is that of the worse size,
of the mode `scale`. It counts only if the result is as good: the benchmark fails where the clusters
agree less with the truth (adjusted Rand index, by more than 0.01) or a layout is less trustworthy
(500 sampled rows, 15 neighbours, by more than 0.005) than the peer's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cluster_speed_quality import agreement, judge, mixture, trustworthiness
from benchmarks.knn_speed_peer import peak_mib
from benchmarks.outcome import Outcome, main
from engine.clustering.fitted import Fit, Placer, fit
from engine.recipe.analysis import Cluster

MODES = ("scale", "seeded")
ASKED, PLACED = 500, 2_000


def run(quick: bool) -> Outcome:
    """Seconds of umap-learn and hdbscan, against those of the engine."""
    sizes, warm = ((5_000, 10_000), 5_000) if quick else ((20_000, 100_000), 12_000)
    warm_up(warm)
    faults: list[str] = []
    ratios = {mode: list[float]() for mode in MODES}
    for rows in sizes:
        for mode, ratio in compare(rows, faults).items():
            ratios[mode].append(ratio)
    memory(max(sizes))
    growth((5_000, 10_000) if quick else (10_000, 20_000, 50_000, 100_000, 200_000))
    print(f"  seeded: {min(ratios['seeded']):.3g} at the worse size")
    outcome = Outcome("cluster_speed", min(ratios["scale"]), 3.0, "umap-learn_and_hdbscan")
    if faults:
        print(outcome, flush=True)
        raise SystemExit("cluster_speed: worse than the peer: " + "; ".join(faults))
    return outcome


def settings(mode: str) -> Cluster:
    """Of all sizes: the defaults of the recipe."""
    return Cluster.model_validate({"encoder": "open_clip:terrarium", "backend": "cpu", "mode": mode})


def data(rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A hundred clusters, or as many as have 200 rows each."""
    return mixture(rows, seed=3, clusters=min(100, rows // 200))


def ours(vectors: NDArray[np.float32], mode: str) -> tuple[Fit, float]:
    """A fit by the engine, and its seconds."""
    numbers = np.arange(len(vectors), dtype=np.uint64)
    started = time.perf_counter()
    made = fit(numbers, vectors, settings(mode), "cpu", seed=0)
    return made, time.perf_counter() - started


def warm_up(rows: int) -> None:
    """Compile whatever any side compiles; so many rows as take the same way as the sizes measured."""
    from benchmarks.cluster_speed_peer import Plain

    vectors, _ = data(rows)
    for mode in MODES:
        made, _ = ours(vectors, mode)
    Placer(made, settings("scale")).place(np.array([rows], np.uint64), vectors[:1])
    Plain(vectors, settings("scale")).place(vectors[:64] + np.float32(1e-3))


def compare(rows: int, faults: list[str]) -> dict[str, float]:
    """Both sides at one size: prints seconds and quality; returns the ratio of each mode."""
    from benchmarks.cluster_speed_peer import Plain

    vectors, truth = data(rows + PLACED)
    vectors, new, new_truth = vectors[:rows], vectors[rows:], truth[rows:]
    truth, ratios = truth[:rows], {mode: list[float]() for mode in MODES}
    asked = np.random.default_rng(9).choice(rows, ASKED, replace=False)
    # Small sizes are over soon, so that chance counts for more: measured several times.
    for index in range(max(1, min(3, 60_000 // rows))):
        fits = {mode: ours(vectors, mode) for mode in MODES}
        peer = Plain(vectors, settings("scale"))
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in peer.parts.items())
        print(f"  {rows:,} rows: umap-learn and hdbscan {peer.seconds:.1f} s ({parts})")
        for mode, (made, seconds) in fits.items():
            ratios[mode].append(peer.seconds / seconds)
            about = f"layouts {made.about['layout_seconds']}, clusters {made.about['cluster_seconds']}"
            print(f"    engine, {mode}: {seconds:.1f} s ({about}), ratio {ratios[mode][-1]:.3g}")
        if index == 0:
            judge({mode: made for mode, (made, _) in fits.items()}, peer, vectors, truth, asked, faults)
            place(fits["scale"][0], peer, vectors, new, new_truth)
    return {mode: statistics.median(values) for mode, values in ratios.items()}


def place(
    made: Fit,
    peer: Any,
    vectors: NDArray[np.float32],
    new: NDArray[np.float32],
    truth: NDArray[np.int64],
) -> None:
    """Print what it takes to place new rows, and how well they lie."""
    placer = Placer(made, settings("scale"))
    numbers = np.arange(len(vectors), len(vectors) + len(new), dtype=np.uint64)
    started = time.perf_counter()
    placed, _ = placer.place(numbers, new)
    seconds = time.perf_counter() - started
    plane, space, label, theirs = peer.place(new)
    layouts = {
        "ours 2-D": (made.placed.plane, placed.plane),
        "ours 5-D": (made.placed.space, placed.space),
        "peer 2-D": (peer.plane, plane),
        "peer 5-D": (peer.space, space),
    }
    trust = trustworthiness(vectors, layouts, new)
    for name, took, found in (("ours", seconds, placed.label), ("peer", theirs, label)):
        flat, deep = trust[f"{name} 2-D"], trust[f"{name} 5-D"]
        print(
            f"    placing {len(new):,}, {name}: {took:.2f} s, ARI {agreement(truth, found):.4f}, "
            f"trustworthiness {flat:.4f} in 2-D, {deep:.4f} in 5-D"
        )


def memory(rows: int) -> None:
    """Print the peak of each side, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "vectors.npy"
        np.save(path, data(rows)[0])
        for side in ("ours", "peer"):
            command = [sys.executable, "-m", "benchmarks.cluster_speed", f"--{side}", str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            print(f"  {rows:,} rows, {side}: {done.stdout.split()[-1]} MiB at most")


def growth(sizes: tuple[int, ...]) -> None:
    """Print how the seconds of a fit grow with its rows: n to the power of what."""
    seconds = [ours(data(rows)[0], "scale")[1] for rows in sizes]
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    told = ", ".join(f"{rows:,}: {took:.1f} s" for rows, took in zip(sizes, seconds, strict=True))
    print(f"  growth {told}; exponent {slope:.2f}")


def _alone(side: str, path: str) -> None:
    vectors = np.load(path)
    if side == "ours":
        ours(vectors, "scale")
    else:
        from benchmarks.cluster_speed_peer import Plain

        Plain(vectors, settings("scale"))
    print(f"{peak_mib():.0f}")


if __name__ == "__main__":
    if sys.argv[1:2] in (["--ours"], ["--peer"]):
        _alone(sys.argv[1].removeprefix("--"), sys.argv[2])
    else:
        main(run)
