"""Similarities between sets of vectors, and the terms of losses that several methods share.

A batch is (B, K, d): K vectors of each of B images or captions. Every term can be had for some rows of
the batch, so that the shares of any cut add up to the whole (see `Method.loss`). Scores between all
B K x B K vectors are never held at once: they come in blocks of rows, and if there are several, each
is computed once more in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu
from torch.utils.checkpoint import checkpoint

from engine.training.method import Targets

#: Scores between single vectors in one block: 16 MiB of float32, of which a term keeps a handful.
SCORES = 2**22

#: (n, K, d) and (m, L, d) -> (n, m): how near each set is to each.
SetSimilarity = Callable[[Tensor, Tensor], Tensor]


def max_over_pairs(x: Tensor, y: Tensor) -> Tensor:
    """The largest cosine of a vector of one set to one of the other (Song and Soleymani 2019).

    (n, K, d) and (m, L, d) unit vectors -> (n, m).
    """
    return _cosines(x, y).amax(dim=(1, 3))


def smooth_chamfer(x: Tensor, y: Tensor, sharpness: float) -> Tensor:
    """Smooth-Chamfer similarity (Kim et al. 2023; METHODS B12):

        S(X, Y) = sum_x log sum_y exp(a cos(x, y)) / (2 a |X|) + sum_y log sum_x exp(a cos(x, y)) / (2 a |Y|).

    It exceeds 1 by (log|X| + log|Y|) / 2a where all vectors are alike.

    Args:
        x, y: (n, K, d) and (m, L, d), unit vectors.
        sharpness: a, above 0; the larger, the nearer to the mean of each vector's best cosine.

    Returns:
        (n, m).
    """
    scaled = sharpness * _cosines(x, y)
    of_x, of_y = scaled.logsumexp(dim=3).mean(dim=1), scaled.logsumexp(dim=1).mean(dim=2)
    return (of_x + of_y) / (2 * sharpness)


def triplet(
    images: Tensor,
    texts: Tensor,
    similarity: SetSimilarity,
    targets: Targets,
    rows: slice,
    margin: float,
    hardest: bool = True,
) -> Tensor:
    """Hinge triplet loss both ways (METHODS B12), the mean over the pairs by their weights.

    A row is asked twice, its image against all captions and its caption against all images, and pays

        max_n relu(margin + s_n - s_own)    or, unless only the hardest counts, its mean over the batch,

    over the n that belong to another image; pairs of one image (equal `targets.owners`) are no
    negatives of each other, and count as 0 in the mean, as the pair itself does.

    Args:
        images, texts: (B, K, d), unit vectors of the whole batch.
        similarity: the same whichever side comes first.
        targets: of the whole batch.
        rows: those of this share.
        margin: by which a pair is to be nearer than others.
        hardest: whether a row pays for the nearest of its negatives alone.

    Returns:
        A scalar: this share.
    """

    def asked(queries: Tensor, keys: Tensor) -> Tensor:
        def term(cut: slice) -> Tensor:
            hinges = _hinges(similarity(queries[cut], keys), targets.owners, cut, margin)
            worst = hinges.max(dim=1).values if hardest else hinges.mean(dim=1)
            return targets.weights[cut].to(worst.dtype) @ worst

        return sum_over_rows(term, rows, queries.shape[1] * keys.shape[0] * keys.shape[1])

    total = asked(images, texts) + asked(texts, images)
    return total / targets.weights.to(total.dtype).sum()


def mmd(x: Tensor, y: Tensor, rows: slice) -> Tensor:
    """Maximum mean discrepancy between all vectors of two sides (METHODS B12):

        mean k(x, x') - 2 mean k(x, y) + mean k(y, y'),    k(u, v) = exp(-0.5 |u - v|),

    with the distance itself, not its square, as the published losses have it. It does not know the
    pairs' weights, since it compares the sides and not pairs.

    Args:
        x, y: (B, K, d) of the whole batch.
        rows: those of this share, which holds the means' addends that begin in one of them.

    Returns:
        A scalar: this share.
    """
    every_x, every_y = x.flatten(0, 1), y.flatten(0, 1)

    def term(cut: slice) -> Tensor:
        of_x, of_y = x[cut].flatten(0, 1), y[cut].flatten(0, 1)
        return _kernel(of_x, every_x) - 2 * _kernel(of_x, every_y) + _kernel(of_y, every_y)

    return sum_over_rows(term, rows, x.shape[1] * len(every_x)) / len(every_x) ** 2


def diversity(residuals: Tensor) -> Tensor:
    """How alike the K residuals of one image or caption are (Song and Soleymani 2019; METHODS B12).

    (b, K, d) -> (b,): the Frobenius norm of their cosines off the diagonal, over K^2.
    """
    cosines = _gram(residuals)
    apart = ~torch.eye(cosines.shape[1], dtype=torch.bool, device=cosines.device)
    norms: Tensor = torch.linalg.vector_norm(cosines * apart, dim=(1, 2))
    return norms / cosines.shape[1] ** 2


def uniformity(slots: Tensor) -> Tensor:
    """How crowded the K slots of one image or caption lie (Kim et al. 2023; METHODS B12).

    (b, K, d) -> (b,): sum_{i<j} exp(-2 |r_i - r_j|^2) / (K (K - 1) / 2) over their directions r; 0 of
    one slot.
    """
    cosines = _gram(slots)
    count = cosines.shape[1]
    first, second = torch.triu_indices(count, count, offset=1, device=cosines.device)
    # |r_i - r_j|^2 = 2 - 2 cos.
    crowded = (4 * (cosines[:, first, second] - 1)).exp()
    return crowded.sum(dim=1) / max(len(first), 1)


def weighted_mean(values: Tensor, targets: Targets, rows: slice) -> Tensor:
    """The share of `rows`, which have these values, (b,), in the mean over a batch by weights."""
    weights = targets.weights.to(values.dtype)
    share: Tensor = weights[rows] @ values / weights.sum()
    return share


def sum_over_rows(term: Callable[[slice], Tensor], rows: slice, scores: int) -> Tensor:
    """The sum of a term over blocks of rows, each small enough to be held.

    Args:
        term: of some rows, a scalar; it must compute the same when it is called again.
        rows: at least one.
        scores: how many one row makes.
    """
    blocks = list(row_blocks(rows, scores))
    if len(blocks) == 1:
        return term(blocks[0])
    sums = [checkpoint(term, cut, use_reentrant=False, preserve_rng_state=False) for cut in blocks]
    return torch.stack(sums).sum()


def all_pairs(similarity: SetSimilarity, x: Tensor, y: Tensor) -> Tensor:
    """(n, m): a similarity of each of n sets to each of m, in blocks of rows."""
    blocks = row_blocks(slice(0, len(x)), x.shape[1] * y.shape[0] * y.shape[1])
    return torch.cat([x.new_empty((0, len(y))), *(similarity(x[cut], y) for cut in blocks)])


def row_blocks(rows: slice, scores: int) -> Iterator[slice]:
    """Consecutive rows, as many at a time as make at most `SCORES` scores, and at least one."""
    size = max(1, SCORES // max(1, scores))
    return (slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    """(n, K, m, L) of unit vectors."""
    return (x.flatten(0, 1) @ y.flatten(0, 1).T).view(*x.shape[:2], *y.shape[:2])


def _gram(vectors: Tensor) -> Tensor:
    """(b, K, K): cosines within each set, of vectors of any length."""
    directions = normalize(vectors, dim=2)
    return directions @ directions.transpose(1, 2)


def _hinges(scores: Tensor, owners: Tensor, cut: slice, margin: float) -> Tensor:
    """(r, B): what each of these rows pays for each of all; 0 where both are of one image."""
    own = scores.gather(1, torch.arange(cut.start, cut.stop, device=scores.device)[:, None])
    return relu(margin + scores - own).masked_fill(owners[cut, None] == owners, 0)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (-0.5 * torch.cdist(x, y)).exp().sum()
