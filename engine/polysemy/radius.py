"""The radius curve: how alike the images around a query are, and how far their captions go.

METHODS B6 (the paper's Figure 3). The radius R is a number of neighbours, or a distance on a map;
the images within it are the query and its R nearest (those no farther than R), so that at R = 0
there is the query alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.polysemy.sphere import frechet_variance, geodesic, mean_angle

#: The paper's figure mentions 0, 5, 25 to 50, and 100.
RADII: tuple[float, ...] = (0, 1, 2, 5, 10, 25, 50, 100)


@dataclass(frozen=True)
class Captions:
    """The caption vectors of a data set, image by image.

    Attributes:
        vectors: (c, d), unit vectors of the captions in the images' order.
        offsets: (m + 1,), int64: image i has the rows offsets[i] to offsets[i + 1].
    """

    vectors: NDArray[np.floating]
    offsets: NDArray[np.int64]

    def of(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the captions of these images, in their order."""
        return np.concatenate(
            [np.empty(0, np.int64), *(np.arange(self.offsets[i], self.offsets[i + 1]) for i in images)]
        )


@dataclass(frozen=True)
class Curve:
    """One row per query, one column per radius; nan where nothing is defined.

    Attributes:
        radii: (r,), float64: how many neighbours, or how far.
        image_cosine: mean cosine between the query image and its neighbours; nan at radius 0.
        caption_distance: mean geodesic distance (radians) between the query image and the
            captions of the images within the radius; nan where they have none.
        caption_spread: mean geodesic distance between two of those captions; nan below two.
        caption_variance: their intrinsic (Frechet) variance, radians squared; nan below one.
    """

    radii: NDArray[np.float64]
    image_cosine: NDArray[np.float64]
    caption_distance: NDArray[np.float64]
    caption_spread: NDArray[np.float64]
    caption_variance: NDArray[np.float64]


def radius_curve(
    queries: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    cosines: NDArray[np.float64],
    images: NDArray[np.floating],
    captions: Captions,
    radii: Sequence[float] = RADII,
    distances: NDArray[np.floating] | None = None,
) -> Curve:
    """Measure the images within each radius of each query.

    Args:
        queries: (q,), rows of the query images.
        neighbours: (q, k), rows of the other images, the nearest first, without the query itself;
            -1 where there are no more.
        cosines: (q, k), their cosines to the query in the space in which images are compared (DINOv2);
            not finite where a neighbour has no vector there: only its captions count.
        images: (q, d), unit vectors of the query images in the captions' space (CLIP).
        captions: the captions of all images.
        radii: numbers of neighbours, k at most; or, with `distances`, how far they may be.
        distances: (q, k), how far each neighbour is from its query, for radii of that kind.

    Raises:
        ValueError: a radius is negative or reaches beyond the neighbours given.
    """
    if distances is None:
        distances = np.broadcast_to(np.arange(1, neighbours.shape[1] + 1), neighbours.shape)
        reach: float = neighbours.shape[1]
    else:
        reach = np.inf
    if min(radii, default=0) < 0 or max(radii, default=0) > reach:
        raise ValueError(
            f"radii {tuple(radii)}: each must lie from 0 to {reach:g}, as far as neighbours were searched"
        )
    table = np.full((4, len(queries), len(radii)), np.nan)
    for row, query in enumerate(queries):
        known = neighbours[row] >= 0
        for column, radius in enumerate(radii):
            inside = known & (distances[row] <= radius)
            near = neighbours[row, inside]
            alike = cosines[row, inside]
            alike = alike[np.isfinite(alike)]
            if len(alike):
                table[0, row, column] = alike.mean()
            within = captions.vectors[captions.of(np.concatenate([[query], near]).astype(np.int64))]
            table[1:, row, column] = _measure(images[row], within)
    return Curve(np.array(radii, np.float64), *table)


def _measure(image: NDArray[np.floating], captions: NDArray[np.floating]) -> tuple[float, float, float]:
    """Distance, spread and variance of the captions around one image."""
    if not len(captions):
        return np.nan, np.nan, np.nan
    return float(geodesic(image, captions).mean()), mean_angle(captions), frechet_variance(captions)


def bootstrap(
    values: NDArray[np.float64], resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the queries with a percentile interval: queries are drawn with replacement.

    Args:
        values: (q, r), one row per query; nan is left out.
        resamples: how many draws.
        level: the share of draws within the interval.
        seed: of the draws.

    Returns:
        Mean, lower and upper bound, each (r,); nan where no query has a value.
    """
    rng, count = np.random.default_rng(seed % 2**64), len(values)
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    mean = _mean(filled, there, np.ones(count))
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    if not count:
        return mean, low, high
    alike = np.full(count, 1 / count)
    # One by one: a thousand draws of a hundred thousand queries at once are a gigabyte.
    weights = (rng.multinomial(count, alike).astype(np.float64) for _ in range(resamples))
    draws = np.stack([_mean(filled, there, row) for row in weights])
    edge = (1 - level) / 2
    some = there.any(axis=0)
    low[some], high[some] = np.nanquantile(draws[:, some], [edge, 1 - edge], axis=0)
    return mean, low, high


def _mean(
    values: NDArray[np.float64], there: NDArray[np.bool_], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    total, count = weights @ values, weights @ there
    mean = np.full(count.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
