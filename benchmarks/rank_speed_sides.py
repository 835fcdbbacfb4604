"""One side of `rank_speed` in a process of its own: `python -m benchmarks.rank_speed_sides SIDE FOLDER`.

It prints, as JSON, the seconds from vectors to figures, the peak of its memory, how much of that came
after everything was imported and read, and the figures themselves.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.retrieval.cosines import Cosines
from engine.retrieval.figures import WAYS, figures
from engine.retrieval.precision import precisions
from engine.retrieval.ranks import Matches, ranks
from engine.retrieval.recall import Resamples, mean_rank, median_rank, recall

#: Items that eccv_caption is shown of each query; its own example keeps as many.
SHOWN = 50
Figures = dict[str, float]
Vectors = NDArray[np.float16]


def ours(images: Vectors, texts: Vectors, owners: NDArray[np.int64]) -> Figures:
    """Exact ranks by blocks, and all figures of them."""
    matches = Matches(owners, np.arange(len(texts)))
    found = ranks(Cosines(images, texts), matches, len(images), len(texts))
    made = figures(matches, found, Resamples(len(images), draws=1))
    return {f"{each.way} {each.name}": each.interval.value for each in made}


def torch_sort(images: Vectors, texts: Vectors, owners: NDArray[np.int64]) -> Figures:
    """The whole matrix, every row and every column sorted, and the same figures of the places."""
    scores = torch.from_numpy(images).float() @ torch.from_numpy(texts).float().T
    numbers, made = np.arange(len(texts)), Figures()
    for way, matrix, queries, items in (
        (WAYS[0], scores, owners, numbers),
        (WAYS[1], scores.T.contiguous(), numbers, owners),
    ):
        order = matrix.argsort(dim=1, descending=True)
        places = torch.empty_like(order)
        places.scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
        placed = 1 + places[torch.from_numpy(queries), torch.from_numpy(items)].numpy()
        early = precisions(queries, placed)
        made |= {f"{way} R@{k}": recall(queries, placed, k) for k in (1, 5, 10, 20)}
        made |= {f"{way} meanR": mean_rank(queries, placed), f"{way} medR": median_rank(queries, placed)}
        made |= {f"{way} best meanR": mean_rank(queries, placed, best=True)}
        made |= {f"{way} best medR": median_rank(queries, placed, best=True)}
        made |= {f"{way} mAP@R": float(early.at_r.mean()), f"{way} mAP": float(early.full.mean())}
        made[f"{way} R-Precision"] = float(early.r_precision.mean())
    return made


def eccv_caption(images: Vectors, texts: Vectors, owners: NDArray[np.int64]) -> Figures:
    """As its README has it: the matrix sorted by NumPy, lists of items, its own figures of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from eccv_caption import Metrics

    truth = Metrics()
    truth.coco_gts = {"i2t": {}, "t2i": {}}
    for text, image in enumerate(owners.tolist()):
        truth.coco_gts["i2t"].setdefault(image, []).append(text)
        truth.coco_gts["t2i"][text] = [image]
    truth.eccv_gts = truth.coco_gts
    scores = images.astype(np.float32) @ texts.astype(np.float32).T
    shown = {
        way: dict(enumerate(np.argsort(-matrix, axis=1)[:, :SHOWN].tolist()))
        for way, matrix in (("i2t", scores), ("t2i", scores.T))
    }
    names = ("coco_5k_recalls", "eccv_map_at_r", "eccv_rprecision", "eccv_r1")
    made = truth.compute_all_metrics(shown["i2t"], shown["t2i"], target_metrics=names, Ks=(1, 5, 10, 20))
    told = {"mAP@R": "eccv_map_at_r", "R-Precision": "eccv_rprecision"}
    told |= {f"R@{k}": f"coco_5k_r{k}" for k in (1, 5, 10, 20)}
    ways = dict(zip(WAYS, ("i2t", "t2i"), strict=True))
    return {
        f"{way} {name}": float(made[theirs][short])
        for way, short in ways.items()
        for name, theirs in told.items()
    }


SIDES: dict[str, Callable[[Vectors, Vectors, NDArray[np.int64]], Figures]] = {
    "ours": ours,
    "torch_sort": torch_sort,
    "eccv_caption": eccv_caption,
}


def main() -> None:
    """Measure one side."""
    side, folder = SIDES[sys.argv[1]], Path(sys.argv[2])
    vectors = [np.load(folder / f"{name}.npy") for name in ("images", "texts", "owners")]
    few = [vectors[0][:64], vectors[1][:64], np.arange(64)]
    if sys.argv[1] != "eccv_caption":
        side(*few)  # what is only paid once
    before, started = _peak_mib(), time.perf_counter()
    made = side(*vectors)
    seconds = time.perf_counter() - started
    peak = _peak_mib()
    print(json.dumps({"seconds": seconds, "peak": peak, "grown": peak - before, "figures": made}))


def _peak_mib() -> float:
    # Not getrusage's, which begins with what the parent process held.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
