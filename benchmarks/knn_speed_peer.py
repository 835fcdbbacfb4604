"""One side of `knn_speed`, in a process of its own; for faiss it needs nothing of this project."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Rows of the search that comes before the one that is timed: threads and libraries are there then.
WARM_QUERIES, WARM_ROWS = 16, 2_000

Search = Callable[[Any], tuple[Any, Any]]


def ours(gallery: Any, k: int) -> Search:
    """The engine's search, with row numbers and cosines."""
    from engine.neighbours import nearest

    def search(queries: Any) -> tuple[Any, Any]:
        found = nearest(queries, gallery, k)
        return found.rows, found.scores

    return search


def sklearn(gallery: Any, k: int) -> Search:
    """scikit-learn's brute force."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(gallery)

    def search(queries: Any) -> tuple[Any, Any]:
        distances, rows = index.kneighbors(queries)
        return rows, 1 - distances

    return search


def faiss(gallery: Any, k: int) -> Search:
    """faiss' flat index of inner products."""
    import faiss as library

    index = library.IndexFlatIP(gallery.shape[1])
    index.add(gallery)

    def search(queries: Any) -> tuple[Any, Any]:
        scores, rows = index.search(queries, k)
        return rows, scores

    return search


SIDES: dict[str, Callable[[Any, int], Search]] = {"ours": ours, "sklearn": sklearn, "faiss": faiss}


def peak_mib() -> float:
    """The most memory this process ever had.

    Not `ru_maxrss`: Linux counts into it what the parent had when it started this process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main(side: str, folder: Path, k: int) -> dict[str, float]:
    """Search once and write what was found; returns seconds and memory in MiB."""
    gallery, queries = np.load(folder / "gallery.npy"), np.load(folder / "queries.npy")
    SIDES[side](gallery[:WARM_ROWS], min(k, WARM_ROWS))(queries[:WARM_QUERIES])
    search = SIDES[side](gallery, k)
    before = peak_mib()
    started = time.perf_counter()
    rows, scores = search(queries)
    seconds = time.perf_counter() - started
    peak = peak_mib()
    np.save(folder / f"{side}-rows.npy", np.asarray(rows, np.int64))
    np.save(folder / f"{side}-scores.npy", np.asarray(scores, np.float64))
    return {"seconds": seconds, "peak_mib": peak, "grown_mib": peak - before}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
