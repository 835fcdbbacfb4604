"""Ranks over a run's pairs on Ray: tasks count what stands before each match, and counts add up.

Cosines are exact (`engine.retrieval.cosines`), so the ranks are those of sorting whole rows and
columns, however the images are cut into slices and whoever computes which. A task holds the vectors
of a slice of the images and of a slice of the captions; what it returns is some numbers a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from engine.difficulty.tables import Division
from engine.evaluation.negatives import draw_others
from engine.evaluation.pairs import PairTables
from engine.evaluation.tables import Counted
from engine.flow.spread import each, slices, start
from engine.retrieval.cosines import Cosines, paired
from engine.retrieval.ranks import Matches, Ranks, Standings

#: Images of one task: it reads the captions of all others once, so few tasks read little.
_IMAGES = 8192


@dataclass(frozen=True)
class _Head:
    """What all tasks must know of a slice: how much there is, and the similarity of its pairs."""

    images: int
    without: int
    owners: NDArray[np.int64]
    own: NDArray[np.float64]
    categories: NDArray[np.int8]


@dataclass(frozen=True)
class _Whole:
    """All pairs, and where each slice's images and texts begin; one more is the end.

    `others` is a text of another image for each image, -1 where there is none.
    """

    matches: Matches
    own: NDArray[np.float64]
    categories: NDArray[np.int8]
    images: NDArray[np.int64]
    texts: NDArray[np.int64]
    others: NDArray[np.int64]
    without: int


@dataclass(frozen=True)
class Ranked:
    """Pairs with their ranks, in the order of the run's parts.

    `own` are the pairs' similarities, `others` those of each image and a text of another one, nan where
    there is none. `categories` are codes of `engine.difficulty.voting.CATEGORIES`, -1 for none.
    """

    matches: Matches
    ranks: Ranks
    own: NDArray[np.float64]
    others: NDArray[np.float64]
    categories: NDArray[np.int8]
    counted: Counted


def rank_pairs(
    plan: pa.Table, pairs: PairTables, division: Division | None, seed: int, cpus: float, gpus: float
) -> Any:
    """A reference to the `Ranked` pairs of a run, which stays where it was computed.

    Args:
        plan: the parts.
        pairs: what is compared.
        division: whose categories the pairs have.
        seed: draws each image's other text.
        cpus, gpus: that each task reserves; with a GPU the products are computed there.
    """
    rows = plan["rows"].to_pylist()
    some = slices(plan["part"].to_pylist(), max(1, _IMAGES * len(rows) // max(sum(rows), 1)))
    heads = each(some, _head, pairs, division)
    whole = start(_joined, heads, seed)
    tasks = list(range(len(some)))
    counts = each(tasks, _count, some, whole, pairs, "cuda" if gpus else "cpu", cpus=cpus, gpus=gpus)
    return start(_ranked, whole, counts)


def _head(parts: Sequence[str], pairs: PairTables, division: Division | None) -> _Head:
    found = [pairs.read(part) for part in parts]
    starts = np.cumsum([0, *(len(each.images) for each in found)])
    return _Head(
        int(starts[-1]),
        sum(each.without for each in found),
        np.concatenate([each.owners + begin for each, begin in zip(found, starts[:-1], strict=True)]),
        np.concatenate([paired(each.images[each.owners], each.texts).numpy() for each in found]),
        np.concatenate(
            [
                division.codes(part, each) if division else np.full(len(each.owners), -1, np.int8)
                for part, each in zip(parts, found, strict=True)
            ]
        ),
    )


def _joined(heads: Sequence[Any], seed: int) -> _Whole:
    found: list[_Head] = ray.get(list(heads))
    images = np.cumsum([0, *(head.images for head in found)])
    texts = np.cumsum([0, *(len(head.own) for head in found)])
    owners = [head.owners + begin for head, begin in zip(found, images[:-1], strict=True)]
    matches = Matches(np.concatenate(owners), np.arange(texts[-1]))
    own = np.concatenate([head.own for head in found])
    categories = np.concatenate([head.categories for head in found])
    others = draw_others(matches.images, int(images[-1]), seed)
    return _Whole(matches, own, categories, images, texts, others, sum(head.without for head in found))


def _count(
    index: int, some: Sequence[Sequence[str]], whole: _Whole, pairs: PairTables, device: str
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """One slice of the images against all texts.

    Returns:
        What stands before the pairs of its images, what its images add to the pairs of all texts, and
        the similarity of each image with its other text.
    """
    images = _stack([pairs.read(part).images for part in some[index]])
    standings = Standings(whole.matches, torch.from_numpy(whole.own).to(device))
    rows, text = slice(*whole.images[index : index + 2].tolist()), 0
    wanted, others = whole.others[rows], np.full(len(images), np.nan)
    for part in (part for parts in some for part in parts):
        texts = pairs.read(part).texts
        columns = slice(text, text + len(texts))
        if len(texts) and len(images):
            standings.count(_shifted(Cosines(images, texts, device), rows, columns), rows, columns)
            here = np.flatnonzero((wanted >= columns.start) & (wanted < columns.stop))
            others[here] = paired(images[here], texts[wanted[here] - columns.start]).numpy()
        text = columns.stop
    mine = slice(*whole.texts[index : index + 2].tolist())
    return standings.ahead[0, mine], standings.ahead[1].astype(np.int32), others


def _shifted(cosines: Cosines, images: slice, texts: slice) -> Any:
    """The similarities of a piece, asked for by the numbers of the whole."""

    def similarity(rows: slice, columns: slice) -> torch.Tensor:
        return cosines(
            slice(rows.start - images.start, rows.stop - images.start),
            slice(columns.start - texts.start, columns.stop - texts.start),
        )

    return similarity


def _stack(found: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def _ranked(whole: _Whole, counts: Sequence[Any]) -> Ranked:
    standings = Standings(whole.matches, torch.from_numpy(whole.own))
    others = list[NDArray[np.float64]]()
    for index, reference in enumerate(counts):
        of_images, of_texts, compared = ray.get(reference)
        others.append(compared)
        standings.ahead[0, slice(*whole.texts[index : index + 2].tolist())] += of_images
        standings.ahead[1] += of_texts
    counted = Counted(int(whole.images[-1]), len(whole.own), whole.without)
    ranks, apart = standings.ranks(), np.concatenate(others)
    return Ranked(whole.matches, ranks, whole.own, apart, whole.categories, counted)
