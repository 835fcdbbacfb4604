"""What the similarities of co-captions come to: their density, mean and quartiles, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.evaluation.co_captions import Block
from engine.retrieval.recall import Resamples, interval

#: Of similarities from -1 to 1: a quartile is exact to 1e-4.
BINS = 20_000

#: One row per set and encoder: its pairs, and the images that have any. `low` and `high` are ends of
#: the mean's 95 % interval over draws of images; `sd` is over pairs. Null where there is no pair.
CO_CAPTIONS = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("set", "encoder")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("pairs", "images")),
        *(pa.field(name, pa.float64()) for name in ("mean", "low", "high", "sd")),
        *(pa.field(name, pa.float64()) for name in ("least", "quartile_1", "median", "quartile_3", "most")),
    ]
)
#: The same with how many pairs lie in each of `BINS` bins from -1 to 1: an answer, of one row.
ANSWER = CO_CAPTIONS.append(pa.field("counts", pa.list_(pa.int64()), nullable=False))


@dataclass(frozen=True)
class Tally:
    """Similarities of some parts, summed up image by image, so that sums do not depend on who adds them.

    Attributes:
        counts: (BINS,), int64.
        pairs: (n,), int64, of each image that has any.
        short: (n,), float64: by how much its pairs fall short of 1, added up. Of sums of similarities
            near 1 the deviation would be lost in rounding.
        squares: (n,), float64: of the same, each squared.
        least, most: of all similarities; infinite where there is none.
    """

    counts: NDArray[np.int64]
    pairs: NDArray[np.int64]
    short: NDArray[np.float64]
    squares: NDArray[np.float64]
    least: float
    most: float

    @classmethod
    def of(cls, blocks: Iterable[Block], images: int) -> Tally:
        """Of all pairs of so many images; those whose similarity is nan are left out."""
        counts, pairs = np.zeros(BINS, np.int64), np.zeros(images, np.int64)
        short, squares, least, most = np.zeros(images), np.zeros(images), np.inf, -np.inf
        for owners, similarities in blocks:
            there = np.isfinite(similarities)
            owner, values = owners[there], similarities[there]
            if not len(values):
                continue
            bins = ((values + 1) * (BINS / 2)).astype(np.int64)
            np.add.at(counts, bins.clip(0, BINS - 1), 1)
            np.add.at(pairs, owner, 1)
            np.add.at(short, owner, 1 - values)
            np.add.at(squares, owner, (1 - values) ** 2)
            least, most = min(least, float(values.min())), max(most, float(values.max()))
        some = pairs > 0
        return cls(counts, pairs[some], short[some], squares[some], least, most)

    @classmethod
    def joined(cls, pieces: Sequence[Tally]) -> Tally:
        """Of the pairs of all; at least one."""
        pairs, short, squares = (
            np.concatenate([getattr(piece, name) for piece in pieces])
            for name in ("pairs", "short", "squares")
        )
        counts = np.sum([piece.counts for piece in pieces], axis=0)
        ends = min(piece.least for piece in pieces), max(piece.most for piece in pieces)
        return cls(counts, pairs, short, squares, *ends)


def answer(tally: Tally, draws: int, seed: int) -> pa.Table:
    """The figures of a set by an encoder, schema ANSWER, both still without their names.

    Args:
        tally: of all its pairs.
        draws: resamples of the images that have pairs.
        seed: of these.
    """
    row: dict[str, Any] = {
        "set": "",
        "encoder": "",
        "pairs": int(tally.pairs.sum()),
        "images": len(tally.pairs),
    }
    if row["pairs"]:
        short = float(tally.short.sum()) / row["pairs"]
        sums = np.stack([tally.short, tally.pairs], axis=1)
        drawn = Resamples(row["images"], draws, seed).means(sums, np.arange(row["images"]))
        mean = interval(1 - short, 1 - drawn[:, 0] / drawn[:, 1])
        variance = float(tally.squares.sum()) / row["pairs"] - short**2
        row |= {"mean": mean.value, "low": mean.low, "high": mean.high, "sd": max(variance, 0.0) ** 0.5}
        quartiles = [min(max(_quantile(tally.counts, q), tally.least), tally.most) for q in (0.25, 0.5, 0.75)]
        row |= dict(zip(("quartile_1", "median", "quartile_3"), quartiles, strict=True))
        row |= {"least": tally.least, "most": tally.most}
    return pa.Table.from_pylist([{**row, "counts": tally.counts.tolist()}], schema=ANSWER)


def _quantile(counts: NDArray[np.int64], share: float) -> float:
    """Below which this share of the pairs lies, as if those of a bin lay evenly in it."""
    reached = np.cumsum(counts)
    wanted = share * reached[-1]
    place = int(np.searchsorted(reached, wanted))
    inside = (wanted - (reached[place] - counts[place])) / counts[place]
    return float((place + inside) * 2 / BINS - 1)
