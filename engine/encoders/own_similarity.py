"""By which similarity the vectors of an encoder are compared; `engine.retrieval.sets` computes it.

Of a model that was trained to compare sets or distributions, cosines are not what it has learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

from engine.errors import RecipeError

#: Above it the smallest of a smooth-Chamfer's exponentials, e^(-2.2 a), leaves float64.
_SHARPEST = 300.0


@dataclass(frozen=True)
class Cosine:
    """The cosine of two vectors; where a side has several, the largest (BLIP-2; Song and Soleymani 2019)."""

    kind: ClassVar = "cosine"
    #: Whether vectors are of unit length.
    unit: ClassVar = True


@dataclass(frozen=True)
class SmoothChamfer:
    """Smooth-Chamfer similarity of two sets of unit vectors (Kim et al. 2023; METHODS B12).

    Attributes:
        sharpness: a, above 0.

    Raises:
        RecipeError: it is not between 0 and 300.
    """

    sharpness: float

    kind: ClassVar = "smooth_chamfer"
    unit: ClassVar = True

    def __post_init__(self) -> None:
        if not 0 < self.sharpness <= _SHARPEST:
            raise RecipeError(
                f"smooth-Chamfer similarity: sharpness {self.sharpness:g} is not above 0 and at most "
                f"{_SHARPEST:g}; give the one that the model was trained with"
            )


@dataclass(frozen=True)
class MatchingProbability:
    """The mean probability that samples of two sides match (Chun et al. 2021; METHODS B12).

    It is given as log-odds, which order as it does and tell apart what is nearly 0 or 1.

    Attributes:
        scale, shift: a and b of sigmoid(2 (b - a |z - z'|)).

    Raises:
        RecipeError: one of them is no number.
    """

    scale: float
    shift: float

    kind: ClassVar = "matching_probability"
    unit: ClassVar = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.shift)):
            raise RecipeError(
                f"matching probability: scale {self.scale:g} and shift {self.shift:g} must be numbers; give "
                "those that the model has learned"
            )


@dataclass(frozen=True)
class DotProduct:
    """The product of two vectors of any length; of several the mean over all pairs.

    Of samples that is what the published code of PCME retrieves by (METHODS B12: "matmul").
    """

    kind: ClassVar = "dot_product"
    unit: ClassVar = False


OwnSimilarity = Cosine | SmoothChamfer | MatchingProbability | DotProduct

#: What is usual.
COSINE: Final = Cosine()
