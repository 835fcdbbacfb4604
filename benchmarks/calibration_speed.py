"""The histogram of a voter's calibration, over the matrix products that it cannot do without.

100,000 pairs of 512 components in batches of 1,024: every batch's 1,048,576 similarities are computed
and counted in 20,000 bins, matching ones and others. The limit is a loop over the same batches that
only multiplies. Both run in this process, one after the other, with all cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.outcome import Outcome, main, median
from engine.difficulty.calibration import Drawn, batches, count_batches

WIDTH, BATCH = 512, 1024


def run(quick: bool) -> Outcome:
    """Share of the limit: products alone, over products that are counted."""
    rounds, pairs = (2, 20_000) if quick else (5, 100_000)
    some = drawn(pairs)
    ratios = []
    for index in range(rounds):
        sides: list[Callable[[Drawn], None]] = [products, counted]
        took = {}
        for side in sides[:: -1 if index % 2 else 1]:
            started = time.perf_counter()
            side(some)
            took[side] = time.perf_counter() - started
        ratios.append(took[products] / took[counted])
        print(f"  products {took[products]:.2f} s, counted {took[counted]:.2f} s")
    return Outcome("calibration_speed", median(ratios), 0.5, "matrix_products_alone")


def drawn(pairs: int) -> Drawn:
    """Captions near their images."""
    random = np.random.default_rng(3)
    images = random.standard_normal((pairs, WIDTH), np.float32)
    texts = images + 2 * random.standard_normal((pairs, WIDTH), np.float32)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts)]
    return Drawn(np.arange(pairs, dtype=np.uint64), unit[0].astype(np.float16), unit[1].astype(np.float16))


def products(some: Drawn) -> None:
    """The similarities of every batch, and nothing of them."""
    images, texts = torch.from_numpy(some.images), torch.from_numpy(some.texts)
    for rows in batches(len(some.numbers), BATCH):
        _ = images[rows].float() @ texts[rows].float().T


def counted(some: Drawn) -> None:
    """What calibrates a voter."""
    histogram = count_batches(some, BATCH)
    assert histogram.matching.sum() == len(some.numbers) // BATCH * BATCH


if __name__ == "__main__":
    main(run)
