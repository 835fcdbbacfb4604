"""Contrastive losses over a batch of pairs, computed for some of its rows: shares add up to the whole.

A row is a pair, which asks twice: its image for its caption among all captions of the batch, and its
caption for its image among all images. The loss of a batch is the weighted mean of its rows' terms,

    sum_i w_i t_i / sum_i w_i,

and a share is what the rows it is asked for add to this. With all weights 1 the first two losses are
those of open_clip. Everything is computed in float32, whatever comes in, and under autocast, too. A
batch of B pairs never makes a B x B matrix: blocks of `BLOCK` rows are computed one after the other,
and once more in the backward pass if there are several.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus
from torch.utils.checkpoint import checkpoint

from engine.training.method import Targets

#: Rows whose cosines to all others are held at once: 1,024 x 32,768 are 128 MiB.
BLOCK = 1024

#: (images, texts, scale, bias, targets, rows) -> a scalar; see `info_nce`.
Loss = Callable[[Tensor, Tensor, Tensor, Tensor | None, Targets, slice], Tensor]

#: (logits of some rows to all, targets, those rows) -> the sum of their weighted terms.
_Terms = Callable[[Tensor, Targets, slice], Tensor]


def info_nce(
    images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor | None, targets: Targets, rows: slice
) -> Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, section 2.3), as open_clip's `ClipLoss`.

    With logits s_ij = scale * cos(image i, caption j) the term of row i is

        t_i = -1/2 (log(exp(s_ii) / sum_j exp(s_ij)) + log(exp(s_ii) / sum_j exp(s_ji))).

    As in the code of the associations paper (METHODS A7), other captions of the same image count as
    negatives; `multi_positive` is the loss in which they do not.

    Args:
        images, texts: (B, d), unit rows of the whole batch.
        scale: a scalar, above 0.
        bias: a scalar or None; it moves all logits alike, which changes nothing here.
        targets: of the whole batch, on the same device.
        rows: those of this share, consecutive.

    Returns:
        A scalar, float32.
    """
    del bias
    ways = ((images, texts), (texts, images))
    return _share(_nce_terms, ways, scale, None, targets, rows)


def sigmoid_loss(
    images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor | None, targets: Targets, rows: slice
) -> Tensor:
    """The sigmoid loss (Zhai et al. 2023, section 3.2), as open_clip's `SigLipLoss`.

    With logits s_ij = scale * cos(image i, caption j) + bias, y_ii = 1 and all other y_ij = -1 an image
    and a caption cost l_ij = -log(sigmoid(y_ij s_ij)), and a row is charged with half of what its image
    costs and half of what its caption does:

        t_i = 1/2 (sum_j l_ij + sum_j l_ji).

    Other captions of the same image count as negatives.

    Args, Returns: as `info_nce`, but here the bias matters; None is 0.
    """
    return _share(_sigmoid_terms, ((images, texts),), scale, bias, targets, rows)


def multi_positive(
    images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor | None, targets: Targets, rows: slice
) -> Tensor:
    """InfoNCE in which pairs of one image (of equal `targets.owners`) are no negatives of each other.

    A query with the positives P and the logits s asks for each of them among what is not positive:

        -1/|P| sum_{p in P} log(exp(s_p) / (exp(s_p) + sum_{n not in P} exp(s_n))),

    and t_i is the mean of this for image i and for caption i. It is the supervised contrastive loss
    with the sum outside (Khosla et al. 2020, equation 2), less the other positives in its denominator,
    which would push the captions of one image apart. Where every image occurs once it is `info_nce`;
    a query without negatives costs nothing.

    Args, Returns: as `info_nce`.
    """
    del bias
    ways = ((images, texts), (texts, images))
    return _share(_positive_terms, ways, scale, None, targets, rows)


#: By the names that `Finetune.loss` takes.
LOSSES: dict[str, Loss] = {
    "infonce": info_nce,
    "sigmoid": sigmoid_loss,
    "multi_positive": multi_positive,
}


def _share(
    terms: _Terms,
    ways: tuple[tuple[Tensor, Tensor], ...],
    scale: Tensor,
    bias: Tensor | None,
    targets: Targets,
    rows: slice,
) -> Tensor:
    """The mean over the ways to ask, of the rows' weighted terms over the weights of all rows."""
    first, stop, _ = rows.indices(len(targets.owners))
    blocks = [slice(start, min(start + BLOCK, stop)) for start in range(first, stop, BLOCK)]

    def block(queries: Tensor, keys: Tensor, scale: Tensor, bias: Tensor | None, cut: slice) -> Tensor:
        logits = (scale.float() * queries[cut]) @ keys.T
        return terms(logits if bias is None else logits + bias.float(), targets, cut)

    total = torch.zeros((), device=targets.weights.device)
    with torch.autocast(total.device.type, enabled=False):
        for queries, keys in ((queries.float(), keys.float()) for queries, keys in ways):
            for cut in blocks:
                if len(blocks) == 1:
                    total = total + block(queries, keys, scale, bias, cut)
                    continue
                total = total + checkpoint(
                    block, queries, keys, scale, bias, cut, use_reentrant=False, preserve_rng_state=False
                )
    return total / (len(ways) * targets.weights.float().sum())


def _nce_terms(logits: Tensor, targets: Targets, cut: slice) -> Tensor:
    own = torch.arange(cut.start, cut.stop, device=logits.device)
    return targets.weights[cut].float() @ cross_entropy(logits, own, reduction="none")


def _sigmoid_terms(logits: Tensor, targets: Targets, cut: slice) -> Tensor:
    """An image and a caption cost half by the weight of either's row, so one way to ask will do."""
    weights = targets.weights.float()
    index = torch.arange(logits.shape[1], device=logits.device)
    costs = softplus(torch.where(index[cut, None] == index, -logits, logits))
    return (weights[cut] @ costs.sum(dim=1) + (costs @ weights).sum()) / 2


def _positive_terms(logits: Tensor, targets: Targets, cut: slice) -> Tensor:
    same = targets.owners[cut, None] == targets.owners
    negatives = logits.masked_fill(same, -torch.inf).logsumexp(dim=1)
    query, positive = same.nonzero(as_tuple=True)
    # Not `negatives[query]`, whose gradient several threads may add up in any order.
    costs = softplus(negatives.index_select(0, query) - logits[query, positive])
    return (targets.weights[cut].float() / same.sum(dim=1))[query] @ costs
