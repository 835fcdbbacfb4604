"""`pcme`: each side a normal distribution, near if their samples match (Chun et al. 2021; METHODS B12)."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone, Seen
from engine.training.method import Outputs, Targets
from engine.training.methods.adapted import Adapted
from engine.training.methods.attention_pool import AttentionPool, Polysemous
from engine.training.methods.contrastive import unit
from engine.training.methods.matching import log_odds, soft_contrastive
from engine.training.sets import all_pairs, weighted_mean

#: a and b at first (METHODS B12: those of COCO).
SCALE, SHIFT = 15.0, 15.0
#: Weight of the divergence from the standard normal distribution (METHODS B12: vib_beta).
DIVERGENCE = 1e-5
#: How far a sample lies from its mean at first, on average, in lengths of a mean.
SPREAD = 0.1
#: Of the samples that are compared outside of training.
_SEED = 0


class Pcme(Adapted):
    """Trains LoRA, means and deviations, and how a distance becomes a probability to match.

    A side's outputs are `mean`, (b, d), unit vectors, and `log_sigma`, (b, d), the logarithms of
    the deviations.
    """

    def __init__(self, backbone: Backbone, settings: Finetune) -> None:
        super().__init__(backbone, settings, lambda width: _Head(width, backbone.width))
        self.samples = settings.adapter.samples
        self.scale = nn.Parameter(torch.tensor(SCALE))
        self.shift = nn.Parameter(torch.tensor(SHIFT))

    def _share(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        """Soft contrastive loss over samples, and the divergence of both sides."""
        random = torch.Generator().manual_seed(targets.seed % 2**64)
        shape = (len(targets.owners), self.samples, images["mean"].shape[1])
        x, y = (_sampled(side, torch.randn(shape, generator=random)) for side in (images, texts))
        share = soft_contrastive(x, y, self.scale, self.shift, targets, rows)
        far = divergence(x[rows], images["log_sigma"][rows]) + divergence(y[rows], texts["log_sigma"][rows])
        return share + DIVERGENCE * weighted_mean(far, targets, rows)

    def _similarity(self, images: Outputs, texts: Outputs) -> Tensor:
        """The log-odds of the mean probability to match, over J x J samples."""
        x, y = self.image_samples(images), self.text_samples(texts)
        return all_pairs(partial(log_odds, scale=self.scale, shift=self.shift), x, y)

    def image_samples(self, images: Outputs) -> Tensor:
        """(n, J, d), outside of training.

        All images share their J draws, and so do all captions: then a similarity depends on what
        is compared alone, and not on what lies beside it.
        """
        return _sampled(images, self._noise(images)[0])

    def text_samples(self, texts: Outputs) -> Tensor:
        """See `image_samples`; captions have draws of their own."""
        return _sampled(texts, self._noise(texts)[1])

    @property
    def similarity_settings(self) -> dict[str, float]:
        """See `Method.similarity_settings`."""
        return {"scale": self.scale.item(), "shift": self.shift.item()}

    def _noise(self, side: Outputs) -> tuple[Tensor, Tensor]:
        """(J, d) of images and of captions."""
        random, shape = torch.Generator().manual_seed(_SEED), (self.samples, side["mean"].shape[1])
        return torch.randn(shape, generator=random), torch.randn(shape, generator=random)


def divergence(samples: Tensor, log_sigma: Tensor) -> Tensor:
    """Divergence from the standard normal distribution, as published (METHODS B12):

        -1/2 sum_d (1 + log_sigma - mean(z)^2 - exp(log_sigma)).

    `log_sigma` stands where the formula has the logarithm of the variance, while the samples are
    drawn as if it were that of the deviation; the published code does both, and so does this.

    Args:
        samples: z, (b, J, d).
        log_sigma: (b, d).

    Returns:
        (b,).
    """
    return -0.5 * (1 + log_sigma - samples.mean(dim=1).square() - log_sigma.exp()).sum(dim=1)


def _sampled(side: Outputs, noise: Tensor) -> Tensor:
    """(b, J, d): mean + sigma * noise, of noise (b, J, d) or (J, d)."""
    mean, log_sigma = side["mean"][:, None], side["log_sigma"][:, None]
    return mean + log_sigma.exp() * noise.to(mean)


class _Head(nn.Module):
    """log_sigma = FC(pooled tokens) + FC(global); the published text tower has a GRU for the latter."""

    def __init__(self, token_width: int, width: int) -> None:
        super().__init__()
        self.polysemous = Polysemous(token_width, width, 1)
        self.pool = AttentionPool(token_width, 1)
        self.of_tokens = nn.Linear(token_width, width)
        self.of_global = nn.Linear(width, width)
        # Published are Xavier's weights. A ViT's tokens are long, and with them samples of a trained
        # CLIP would at first lie anywhere: it would have to be learned anew.
        for layer in (self.of_tokens, self.of_global):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.of_tokens.bias, math.log(SPREAD / width**0.5))

    def forward(self, seen: Seen) -> Outputs:
        vectors, _ = self.polysemous(seen)
        tokens = self.pool(seen.tokens, seen.valid)[:, 0]
        log_sigma = self.of_tokens(tokens) + self.of_global(seen.pooled)
        return {"mean": unit(vectors[:, 0]), "log_sigma": log_sigma}
