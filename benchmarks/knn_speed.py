"""Exact nearest neighbours by the engine, over faiss' flat index and scikit-learn's brute force.

The 100 rows with the largest cosine to each of 1,000 queries, in a gallery of 100,000 unit vectors of
512 components that form clusters. Every search runs in a process of its own with all cores, after a
small one; what an index takes to be filled is left out. All sides must find the same rows, but for
rows whose scores differ by less than 1e-6. The engine scores its candidates again in float64, which
the others do not.

faiss is no dependency of this project: it runs in an environment made here from
`requirements/knn-speed.txt` (needs uv), or by the Python that CONNOTE_KNN_PEER names. Where neither is
to be had, the ratio is against scikit-learn alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.outcome import Outcome, main, median

ENVIRONMENT = Path(".venv-knn-speed")
PEER = Path(__file__).with_name("knn_speed_peer.py")
NEIGHBOURS, WIDTH = 100, 512
TIE = 1e-6


def run(quick: bool) -> Outcome:
    """Queries/s of the engine's exact search, against faiss."""
    # A round takes half a second of each: fewer of them tell more of the machine than of the search.
    rounds, queries, rows = (1, 200, 10_000) if quick else (15, 1_000, 100_000)
    pythons = {"ours": sys.executable, "sklearn": sys.executable}
    if found := peer_python():
        pythons["faiss"] = found
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_vectors(folder, rows, queries)
        seconds: dict[str, list[float]] = {side: [] for side in pythons}
        for index in range(rounds):
            # Who is first alternates: a machine that slows down or speeds up favours nobody.
            for side in list(pythons)[:: -1 if index % 2 else 1]:
                told = search(pythons[side], side, folder)
                seconds[side].append(told["seconds"])
                if index == 0:
                    print(
                        f"  {side:<7} peak {told['peak_mib']:,.0f} MiB, {told['grown_mib']:,.0f} by searching"
                    )
            print("  " + ", ".join(f"{side} {values[-1]:.3f} s" for side, values in seconds.items()))
        for side in pythons:
            check_same(folder, side)
    ratios = {
        side: [theirs / ours for theirs, ours in zip(seconds[side], seconds["ours"], strict=True)]
        for side in pythons
        if side != "ours"
    }
    if "faiss" in ratios:
        print(f"  against scikit-learn: {statistics.median(ratios['sklearn']):.3g}")
        return Outcome("knn_speed", median(ratios["faiss"]), 1.0, "faiss_IndexFlatIP")
    return Outcome("knn_speed", median(ratios["sklearn"]), 1.0, "scikit-learn_brute_force")


def write_vectors(folder: Path, rows: int, queries: int) -> None:
    """A gallery and queries of the same 200 clusters."""
    random = np.random.default_rng(5)
    centres = random.standard_normal((200, WIDTH)).astype(np.float32)
    for name, count in (("gallery", rows), ("queries", queries)):
        noise = random.standard_normal((count, WIDTH), np.float32)
        vectors = centres[random.integers(len(centres), size=count)] + noise
        np.save(folder / f"{name}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def peer_python() -> str | None:
    """A Python that has faiss; None, and a word about it, if there is none."""
    if named := os.environ.get("CONNOTE_KNN_PEER"):
        return named
    python = ENVIRONMENT.resolve() / "bin" / "python"
    if not (ENVIRONMENT / ".ready").exists():
        environment = {**os.environ, "VIRTUAL_ENV": str(ENVIRONMENT.resolve())}
        try:
            make = ["uv", "venv", "-q", "--allow-existing", "--python", "python3", str(ENVIRONMENT)]
            subprocess.run(make, check=True)
            fill = ["uv", "pip", "install", "-q", "--no-deps", "-r", "requirements/knn-speed.txt"]
            subprocess.run(fill, check=True, env=environment)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"  faiss is left out: its environment could not be made ({error})")
            return None
        (ENVIRONMENT / ".ready").touch()
    return str(python)


def search(python: str, side: str, folder: Path) -> dict[str, float]:
    """One side's seconds and memory."""
    # Of our own sides the project must be found; the peer's Python sees nothing of it.
    start = ["-m", "benchmarks.knn_speed_peer"] if python == sys.executable else [str(PEER)]
    command = [python, *start, side, str(folder), str(NEIGHBOURS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def check_same(folder: Path, side: str) -> None:
    """Stop if a side's neighbours are others than ours, apart from ties."""
    gallery, queries = np.load(folder / "gallery.npy"), np.load(folder / "queries.npy")
    mine, theirs = np.load(folder / "ours-rows.npy"), np.load(folder / f"{side}-rows.npy")
    scores = np.load(folder / "ours-scores.npy")
    apart = [
        np.abs(exact(query, gallery[rows]) - own).max()
        for query, rows, own in zip(queries, theirs, scores, strict=True)
    ]
    if repeated := sum(len(set(rows)) < len(rows) for rows in theirs.tolist()):
        raise SystemExit(f"knn_speed: {side} found a row twice for {repeated} queries")
    if max(apart) > TIE:
        raise SystemExit(f"knn_speed: {side}'s neighbours differ from ours by {max(apart):.2g} in cosine")
    print(f"  {side:<7} same neighbours; {(mine != theirs).sum()} of {mine.size:,} change places with a tie")


def exact(query: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.float64]:
    """The cosines of a query to some rows, in float64."""
    return rows.astype(np.float64) @ query.astype(np.float64)


if __name__ == "__main__":
    main(run)
