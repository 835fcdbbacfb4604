"""The points of a cluster map, and what both of its forms (picture and page) say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: More names than this hide the map.
NAMED = 30


@dataclass(frozen=True)
class Points:
    """Samples on the plane.

    Attributes:
        x: (n,) float; a sample with a coordinate that is not finite is left out of every map.
        y: (n,) float.
        label: (n,) int64, the cluster of each sample; -1 is noise.
        strength: (n,) float32, how surely the sample belongs to its cluster, from 0 to 1.

    Raises:
        ValueError: an array is not one-dimensional, or they differ in length.
    """

    x: NDArray[np.floating]
    y: NDArray[np.floating]
    label: NDArray[np.int64]
    strength: NDArray[np.float32]

    def __post_init__(self) -> None:
        shapes = {name: getattr(self, name).shape for name in ("x", "y", "label", "strength")}
        if len(set(shapes.values())) != 1 or len(self.x.shape) != 1:
            raise ValueError(f"Points: the arrays must all be (n,), but their shapes are {shapes}")

    def __len__(self) -> int:
        return len(self.x)

    def order(self) -> NDArray[np.int64]:
        """Rows (m,) int64 in the order to draw: finite ones only, noise below the clusters."""
        rows = np.flatnonzero(np.isfinite(self.x) & np.isfinite(self.y))
        drawn: NDArray[np.int64] = rows[np.argsort(self.label[rows] >= 0, kind="stable")]
        return drawn

    def take(self, rows: NDArray[np.int64]) -> Points:
        """These rows only, in this order."""
        return Points(self.x[rows], self.y[rows], self.label[rows], self.strength[rows])

    def certainty(self) -> NDArray[np.float64]:
        """Strength as an opacity, (n,) from 0.45 to 1: a sample of strength 0 can still be seen."""
        known = np.nan_to_num(np.asarray(self.strength, np.float64), nan=0.0)
        faint: NDArray[np.float64] = 0.45 + 0.55 * np.clip(known, 0.0, 1.0)
        return np.where(self.label < 0, 0.6, faint)


@dataclass(frozen=True)
class Name:
    """A cluster's name and where to write it (the median of its points)."""

    label: int
    text: str
    x: float
    y: float


def largest(points: Points, names: Mapping[int, str], limit: int = NAMED) -> list[Name]:
    """Names of the largest clusters, the largest first, equal ones by label."""
    labels, sizes = np.unique(points.label[points.label >= 0], return_counts=True)
    chosen = labels[np.argsort(-sizes, kind="stable")][:limit]
    return [_named(points, int(label), names) for label in chosen]


def _named(points: Points, label: int, names: Mapping[int, str]) -> Name:
    inside = points.label == label
    middle = float(np.median(points.x[inside])), float(np.median(points.y[inside]))
    return Name(label, name_of(label, names), *middle)


def name_of(label: int, names: Mapping[int, str]) -> str:
    """A cluster's name on one line; one without a name is called by its number."""
    given = names.get(label)
    return one_line(given, 48) if given else "noise" if label < 0 else f"cluster {label}"


def summary(points: Points) -> str:
    """How many samples, clusters and what share of noise, as a line of text."""
    if not len(points):
        return "no samples"
    clusters = len(np.unique(points.label[points.label >= 0]))
    noise = float(np.mean(points.label < 0))
    plural = "" if len(points) == 1 else "s", "" if clusters == 1 else "s"
    return f"{len(points):,} sample{plural[0]}, {clusters:,} cluster{plural[1]}, {noise:.0%} noise"


def one_line(text: str, width: int) -> str:
    """Text without line breaks or characters that cannot be printed, of at most `width` characters."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"
