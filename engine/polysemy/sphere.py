"""The geometry of the unit sphere on which cosine-trained encoders place images and texts.

Distances are geodesic: METHODS B5. Rows are directions, of whatever length: what was stored in
float16 is off by some 1e-4, and arccos near 1 would make a hundredth of a radian of that, so each
measure scales them anew in float64. A row without direction (zero or not finite) has no distance:
leave it out by `directions`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating]

#: Below this angle (radians) a tangent vector's direction is lost in float64's rounding.
_SMALL = 1e-12
#: Pairs of rows that are compared at once.
_PAIRS = 2**20


def directions(vectors: Vectors) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Normalise the rows.

    Args:
        vectors: (n, d).

    Returns:
        The unit rows (n, d), and a mask (n,) of those that have a direction; the others are zero.
    """
    rows = np.asarray(vectors, np.float64)
    # Divided by the largest component first: the square of a large finite number is not finite.
    scale = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    good = np.isfinite(scale[:, 0]) & (scale[:, 0] > 0)
    units = np.zeros_like(rows)
    units[good] = rows[good] / scale[good]
    units[good] /= np.linalg.norm(units[good], axis=1, keepdims=True)
    return units, good


def geodesic(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    """The angle between paired rows, in radians: arccos(clip(<x, c> / (|x| |c|), -1, 1)).

    Args:
        left: (..., d).
        right: (..., d); broadcast against `left`.

    Returns:
        (...), between 0 and pi.
    """
    cosine = np.einsum("...d,...d->...", _units(left), _units(right))
    angle: NDArray[np.float64] = np.arccos(np.clip(cosine, -1.0, 1.0))
    return angle


def log_map(base: Vectors, points: Vectors) -> NDArray[np.float64]:
    """The tangent vectors at `base` that lead to the points: their length is the geodesic distance.

    log_s(q) = arccos(<s, q>) * P(q - s) / |P(q - s)| with P = I - s s^T. The point opposite to
    the base has no direction of its own and is given the zero vector, as the base itself is.

    Args:
        base: (d,), a unit vector.
        points: (n, d), unit vectors.

    Returns:
        (n, d), each orthogonal to the base.
    """
    base, points = np.asarray(base, np.float64), np.asarray(points, np.float64)
    cosine = np.clip(points @ base, -1.0, 1.0)
    tangent = points - cosine[:, None] * base
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    # From the tangent's length, too: arccos alone loses half its digits near 0 and pi.
    angle = np.arctan2(length[:, 0], cosine)[:, None]
    unit = tangent / np.maximum(length, _SMALL)
    return np.asarray(np.where(length > _SMALL, unit * angle, 0.0), np.float64)


def exp_map(base: Vectors, tangent: Vectors) -> NDArray[np.float64]:
    """The point that a tangent vector (d,) at `base` (d,) leads to: cos|v| s + sin|v| v/|v|."""
    base, tangent = np.asarray(base, np.float64), np.asarray(tangent, np.float64)
    angle = float(np.linalg.norm(tangent))
    if angle < _SMALL:
        return np.array(base, np.float64)
    point = np.cos(angle) * base + np.sin(angle) * tangent / angle
    return np.asarray(point / np.linalg.norm(point), np.float64)


def frechet_mean(points: Vectors, tolerance: float = 1e-9, steps: int = 100) -> NDArray[np.float64]:
    """The intrinsic (Frechet) mean: the point whose mean squared geodesic distance is least.

    m <- exp_m(mean_i log_m(x_i)), from the direction of the Euclidean mean until the step is
    shorter than `tolerance` radians. It is unique where the points lie in an open half sphere.

    Args:
        points: (n, d), at least one.

    Returns:
        (d,), a unit vector.
    """
    points = _units(points)
    start, good = directions(points.mean(axis=0, keepdims=True))
    mean: NDArray[np.float64] = start[0] if good[0] else points[0]
    for _ in range(steps):
        step = log_map(mean, points).mean(axis=0)
        mean = exp_map(mean, step)
        if np.linalg.norm(step) < tolerance:
            break
    return mean


def frechet_variance(points: Vectors) -> float:
    """The mean squared geodesic distance (radians squared) of rows (n, d) to their mean."""
    return float(np.mean(geodesic(points, frechet_mean(points)) ** 2))


def mean_cosine(points: Vectors) -> float:
    """The mean cosine of two different rows of (n, d); nan below two."""
    return _mean_pair(points, lambda cosines: cosines)


def mean_angle(points: Vectors) -> float:
    """The mean geodesic distance, in radians, of two different rows of (n, d); nan below two."""
    return _mean_pair(points, lambda cosines: np.arccos(np.clip(cosines, -1.0, 1.0)))


def _mean_pair(points: Vectors, measure: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
    """The mean over pairs of different rows, some rows at a time: the whole matrix need not fit."""
    rows, total = _units(points), 0.0
    count = len(rows)
    block = max(1, _PAIRS // max(count, 1))
    for start in range(0, count, block):
        values = measure(rows[start : start + block] @ rows.T)
        # The diagonal is each row with itself: no pair.
        total += float(values.sum() - np.trace(values, offset=start))
    return total / (count * (count - 1)) if count > 1 else np.nan


def _units(vectors: Vectors) -> NDArray[np.float64]:
    """Rows (..., d) scaled to length 1."""
    rows = np.asarray(vectors, np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float64)
