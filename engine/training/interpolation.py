"""Weights between the model that training began with and the tuned one, against forgetting (WiSE-FT)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def interpolated(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) start + share tuned, weight by weight (Wortsman et al. 2022, section 3).

    Args:
        start, tuned: weights of one architecture, by name.
        share: of the tuned weights, in [0, 1].

    Returns:
        New tensors of the tuned ones' types and devices, computed in float64. A share of 1 gives
        the tuned weights to the last bit, 0 the start's, and weights that are equal in both stay
        as they are. What is no floating-point number (positions, counters) is the tuned model's
        but for share 0.

    Raises:
        ValueError: the share lies outside, or names or shapes differ.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of the tuned weights is {share}; it must lie in 0 to 1")
    wrong = sorted(start.keys() ^ tuned.keys()) or [n for n in start if start[n].shape != tuned[n].shape]
    if wrong:
        raise ValueError(f"{wrong[0]} is not the same weight in both models: they cannot be interpolated")
    return {name: _between(start[name], tuned[name], share) for name in tuned}


def _between(start: Tensor, tuned: Tensor, share: float) -> Tensor:
    start = start.detach().to(tuned.device)
    if share == 0:
        return start.to(tuned.dtype, copy=True)
    if share == 1 or not tuned.is_floating_point():
        return tuned.detach().clone()
    mixed = torch.lerp(start.double(), tuned.detach().double(), share).to(tuned.dtype)
    # An infinity, as in a mask, has no difference to itself.
    return torch.where(start == tuned, tuned.detach(), mixed)


def best_share(
    shares: Sequence[float], score: Callable[[float], float]
) -> tuple[float, list[tuple[float, float]]]:
    """The share whose weights score best; of equal ones the smallest, which forgets least.

    Args:
        shares: to try, at least one; each is scored once.
        score: of the weights at a share, on validation data; higher is better. What is no number
            loses against every number.

    Returns:
        The share, and every share with its score, from the smallest up.

    Raises:
        ValueError: there is no share to choose from, or no score is a number.
    """
    scores = [(share, float(score(share))) for share in sorted(set(shares))]
    numbers = [pair for pair in scores if not math.isnan(pair[1])]
    if not numbers:
        raise ValueError(f"no share of the tuned weights can be chosen: the scores are {scores}")
    # The first of equal ones.
    return max(numbers, key=lambda pair: pair[1])[0], scores
