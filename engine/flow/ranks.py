"""Ranks over a run's pairs on Ray: tasks count what stands before each match, and counts add up.

A similarity is its pair's own to the last bit (`engine.retrieval.sets`), so the ranks are those of
sorting whole rows and columns, however the images are cut into slices and whoever computes which. A
task holds the vectors of a slice of the images and of one part's captions; what it returns is some
numbers a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from engine.device import device_of
from engine.difficulty.tables import Division
from engine.evaluation.categories import Categories
from engine.evaluation.gallery import Gallery, Head, gallery
from engine.evaluation.labels import CategoryReader, Labels
from engine.evaluation.pairs import PairTables
from engine.evaluation.tables import Counted
from engine.flow.spread import each, slices, start
from engine.retrieval.ranks import Matches, Ranks, Standings
from engine.retrieval.sets import paired, similarity_of

#: Images of one task: it reads the captions of all others once, so few tasks read little.
_IMAGES = 8192


@dataclass(frozen=True)
class Ranked:
    """Pairs with their ranks, in the order of the run's parts.

    `own` are the pairs' similarities, `others` those of each image and a text of another one, nan where
    there is none.
    """

    matches: Matches
    ranks: Ranks
    own: NDArray[np.float64]
    others: NDArray[np.float64]
    categories: Categories
    counted: Counted


@dataclass(frozen=True)
class _Slice:
    """Consecutive parts, whose images one task compares with all texts."""

    first: int
    parts: list[str]

    def images(self, whole: Gallery) -> slice:
        """The numbers of its images."""
        return slice(int(whole.images[self.first]), int(whole.images[self.first + len(self.parts)]))


@dataclass(frozen=True)
class Compared:
    """Pairs on the way to their ranks; all but the slices are references.

    `whole` is to the `Gallery`, `own` to (p,) float64, the similarities of its pairs.
    """

    slices: list[_Slice]
    parts: Any
    whole: Any
    own: Any


def rank_pairs(
    plan: pa.Table,
    pairs: PairTables,
    categories: Division | Labels | None,
    seed: int,
    cpus: float,
    gpus: float,
) -> Any:
    """A reference to the `Ranked` pairs of a run, which stays where it was computed.

    Args:
        plan: the parts.
        pairs: what is compared.
        categories: where those of the pairs are from.
        seed: draws each image's other text.
        cpus, gpus: that each task reserves; with a GPU the products are computed there.
    """
    made = compare_own(plan, pairs, categories, seed)
    shared = made.parts, made.whole, made.own, pairs, gpus
    counts = each(made.slices, _count, *shared, cpus=cpus, gpus=gpus)
    return start(_ranked, made.slices, made.whole, made.own, counts)


def compare_own(
    plan: pa.Table, pairs: PairTables, categories: Division | Labels | None = None, seed: int = 0
) -> Compared:
    """Compare each image with its own texts; args as of `rank_pairs`."""
    rows = plan.to_pylist()
    parts, images = [row["part"] for row in rows], sum(row["rows"] for row in rows)
    whole = start(_whole, each(slices(rows), _heads, pairs, categories), seed)
    some, first = list[_Slice](), 0
    for cut in slices(parts, max(1, _IMAGES * len(parts) // max(images, 1))):
        some.append(_Slice(first, list(cut)))
        first += len(cut)
    parts = ray.put(parts)
    return Compared(some, parts, whole, start(_joined, each(some, _own, parts, whole, pairs)))


def _heads(
    rows: Sequence[Mapping[str, Any]], pairs: PairTables, source: Division | Labels | None
) -> list[Head]:
    found, reader, categories = [], pairs.reader(), CategoryReader(source)
    for row in rows:
        some = pairs.read(row["part"])
        digests = pairs.digests(reader, row, some)
        owned = some.owners, some.vectors
        codes = categories.read(row, some.rows[some.owners], some.places)
        found.append(Head(len(some.images), some.without, *owned, codes, digests))
    return found


def _whole(pieces: Sequence[Any], seed: int) -> Gallery:
    return gallery([head for piece in ray.get(list(pieces)) for head in piece], seed)


def _own(cut: _Slice, parts: Sequence[str], whole: Gallery, pairs: PairTables) -> NDArray[np.float64]:
    """The similarities of the pairs of a slice's images."""
    images, rows = _images(cut, pairs), cut.images(whole)
    mine = whole.pairs_of(rows)
    owners, wanted = whole.matches.images[mine] - rows.start, whole.matches.texts[mine]
    found = np.full(len(wanted), np.nan)
    for columns, texts in _texts(parts, whole, pairs, wanted):
        here = np.flatnonzero((wanted >= columns.start) & (wanted < columns.stop))
        asking, there = images[owners[here]], texts[wanted[here] - columns.start]
        found[here] = paired(pairs.similarity, asking, there).numpy()
    return found


def _count(
    cut: _Slice,
    parts: Sequence[str],
    whole: Gallery,
    own: NDArray[np.float64],
    pairs: PairTables,
    gpus: float,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """One slice of the images against all texts.

    Returns:
        What stands before the pairs of its images, what its images add to the pairs of all texts, and
        the similarity of each image with its other text.
    """
    device = device_of(gpus, "evaluate.gpus")
    images, rows = _images(cut, pairs), cut.images(whole)
    # Arrays that Ray hands over may not be written to, and torch wants such as may.
    standings = Standings(whole.matches, torch.from_numpy(own.copy()).to(device))
    wanted, others = whole.others[rows], np.full(len(images), np.nan)
    for columns, texts in _texts(parts, whole, pairs):
        if len(images):
            similarity = similarity_of(pairs.similarity, images, texts, device, (rows.start, columns.start))
            standings.count(similarity, rows, columns)
        here = np.flatnonzero((wanted >= columns.start) & (wanted < columns.stop))
        there = texts[wanted[here] - columns.start]
        others[here] = paired(pairs.similarity, images[here], there).numpy()
    return standings.ahead[0, whole.pairs_of(rows)], standings.ahead[1].astype(np.int32), others


def _images(cut: _Slice, pairs: PairTables) -> NDArray[Any]:
    return np.concatenate([pairs.read(part).images for part in cut.parts])


def _texts(
    parts: Sequence[str], whole: Gallery, pairs: PairTables, wanted: NDArray[np.int64] | None = None
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The numbers and vectors of the texts, part by part; of parts without a wanted one nothing is read."""
    for index, part in enumerate(parts):
        columns = slice(int(whole.texts[index]), int(whole.texts[index + 1]))
        there = columns.stop > columns.start
        if wanted is not None:
            there = bool(((wanted >= columns.start) & (wanted < columns.stop)).any())
        if there:
            yield columns, pairs.captions.captions(part).vectors[whole.vectors[index]]


def _joined(pieces: Sequence[Any]) -> NDArray[np.float64]:
    return np.concatenate(ray.get(list(pieces)))


def _ranked(
    some: Sequence[_Slice], whole: Gallery, own: NDArray[np.float64], counts: Sequence[Any]
) -> Ranked:
    standings, others = Standings(whole.matches, torch.from_numpy(own.copy())), []
    for cut, reference in zip(some, counts, strict=True):
        of_images, of_texts, compared = ray.get(reference)
        others.append(compared)
        standings.ahead[0, whole.pairs_of(cut.images(whole))] += of_images
        standings.ahead[1] += of_texts
    counted = Counted(int(whole.images[-1]), int(whole.texts[-1]), whole.without)
    apart = np.concatenate(others)
    return Ranked(whole.matches, standings.ranks(), own, apart, whole.categories, counted)
