"""The probability that two uncertain vectors match, and the loss that learns it (METHODS B12).

Chun et al. 2021, section 3: an image and a caption are J samples each, and two samples z and z' match
with probability sigma(s), where s = -a |z - z'| + b and, as in their code, sigma(s) = e^s / (e^s + e^-s),
the logistic function of 2 s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from engine.training.method import Targets
from engine.training.sets import sum_over_rows

#: Pairs that do not match for each that does, in the published batch of 128. With the sums of the
#: published loss their share would grow with the batch, and the loss with its square.
NEGATIVES = 127
#: Below the root of a distance, whose slope is not finite at 0 (METHODS B12).
_EPSILON = 1e-6


def soft_contrastive(
    images: Tensor, texts: Tensor, scale: Tensor, shift: Tensor, targets: Targets, rows: slice
) -> Tensor:
    """Soft contrastive loss over all pairs of images and captions (METHODS B12).

    With m_ij = 1 where image i and caption j are of one image (equal `targets.owners`), else -1,

        NLL_ij = log J^2 - logsumexp over the J^2 pairs of samples of log sigma(m_ij s),
        loss = 2 (mean of NLL over m_ij = 1  +  127 x mean of NLL over m_ij = -1).

    That is the published sum over all pairs and both ways (which are equal), in its batch of 128 and
    divided by 128, and stays so in batches of other sizes. A pair (i, j) counts by the mean of the
    weights of the rows i and j.

    Args:
        images, texts: (B, J, d), samples of the whole batch.
        scale, shift: a and b, scalars.
        targets: of the whole batch.
        rows: those of this share, as images.

    Returns:
        A scalar: this share.
    """
    weights = targets.weights.to(images.dtype)
    matching, other = _totals(targets.owners, weights)
    samples = images.shape[1]

    def term(cut: slice) -> Tensor:
        same = targets.owners[cut, None] == targets.owners
        signs = torch.where(same, 1.0, -1.0)[:, None, :, None]
        odds = match_odds(images[cut], texts, scale, shift) * signs
        costs = 2 * math.log(samples) - logsigmoid(odds).logsumexp(dim=(1, 3))
        shares = torch.where(same, 1 / matching, NEGATIVES / other) * (weights[cut, None] + weights)
        return (shares * costs).sum()

    return sum_over_rows(term, rows, samples * texts.shape[0] * samples)


def match_odds(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Logarithms of the odds that samples match, 2 s.

    Args:
        x, y: (n, J, d) and (m, L, d).
        scale, shift: a and b.

    Returns:
        (n, J, m, L).
    """
    one, other = x.flatten(0, 1), y.flatten(0, 1)
    squares = (one * one).sum(dim=1)[:, None] + (other * other).sum(dim=1) - 2 * (one @ other.T)
    distances = (squares.clamp(min=0) + _EPSILON).sqrt()
    return (2 * (shift - scale * distances)).view(*x.shape[:2], *y.shape[:2])


def log_odds(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """log(p / (1 - p)) of p, the mean of the samples' probabilities to match.

    It orders as p does, and still tells apart what is nearly 0 or 1, which p itself does not in
    float32.

    Args, Returns: as `match_odds`, but (n, m).
    """
    odds = match_odds(x, y, scale, shift)
    return logsigmoid(odds).logsumexp(dim=(1, 3)) - logsigmoid(-odds).logsumexp(dim=(1, 3))


def _totals(owners: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of all pairs that match, and of all others; at least a little, to divide by."""
    _, place, counts = torch.unique(owners, return_inverse=True, return_counts=True)
    matching = weights @ counts[place].to(weights.dtype)
    other = len(weights) * weights.sum() - matching
    return matching, other.clamp(min=torch.finfo(weights.dtype).tiny)
