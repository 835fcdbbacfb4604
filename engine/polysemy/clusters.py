"""The polysemy of a cluster: images that look alike, and captions that lead away from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.polysemy.radius import Captions
from engine.polysemy.sphere import frechet_variance, geodesic, mean_angle, mean_cosine


@dataclass(frozen=True)
class ClusterPolysemy:
    """What is measured over some images of one cluster; nan where nothing is defined.

    Attributes:
        image_cosine: mean cosine between two of the images (DINOv2 space).
        caption_distance: mean geodesic distance, in radians, between an image and the captions of
            all of them (CLIP space).
        caption_spread: mean geodesic distance between two captions.
        caption_variance: intrinsic (Frechet) variance of the captions, radians squared.
    """

    image_cosine: float
    caption_distance: float
    caption_spread: float
    caption_variance: float


def measure_cluster(
    looks: NDArray[np.floating], images: NDArray[np.floating], captions: Captions
) -> ClusterPolysemy:
    """Measure images of a cluster against each other and against all their captions.

    Args:
        looks: (n, d), unit vectors in the space in which images are compared.
        images: (n, e), unit vectors of the same images in the captions' space.
        captions: the captions of these images.
    """
    words = np.asarray(captions.vectors, np.float64)
    if not len(words):
        return ClusterPolysemy(mean_cosine(looks), np.nan, np.nan, np.nan)
    distance = float(geodesic(images[:, None], words[None]).mean())
    return ClusterPolysemy(mean_cosine(looks), distance, mean_angle(words), frechet_variance(words))


def polysemy_rank(cosine: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """How polysemous each cluster is among all: alike images and far captions, 0 to 1.

    The mean of two ranks, that of its image cosine and that of its caption distance: the two have
    no common unit. nan where one of them is not defined.

    Args:
        cosine, distance: (clusters,), of `ClusterPolysemy`.
    """
    return np.asarray((_rank(cosine) + _rank(distance)) / 2)


def _rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the other values that lie below each; equal ones share it, one alone has the middle."""
    known = np.isfinite(values)
    ranks = np.full(len(values), np.nan)
    others = known.sum() - 1
    if others == 0:
        ranks[known] = 0.5
    if others < 1:
        return ranks
    some, ordered = values[known], np.sort(values[known])
    below = np.searchsorted(ordered, some, "left")
    equal = np.searchsorted(ordered, some, "right") - below - 1
    ranks[known] = (below + equal / 2) / others
    return ranks
