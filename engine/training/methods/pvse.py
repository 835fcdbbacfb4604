"""`pvse`: K vectors a side, near if any two of them are (Song and Soleymani 2019; METHODS B12)."""

from __future__ import annotations

from torch import Tensor, nn

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone, Seen
from engine.training.method import Outputs, Targets
from engine.training.methods.adapted import Adapted
from engine.training.methods.attention_pool import Polysemous
from engine.training.methods.contrastive import unit
from engine.training.sets import all_pairs, diversity, max_over_pairs, mmd, triplet, weighted_mean

#: Of the hinge, over the hardest negatives (METHODS B12: the option's default, and --max_violation).
MARGIN = 0.1
#: Weights of the two terms that keep K vectors apart and both sides together (the recommended command).
DIVERSITY, DISCREPANCY = 0.1, 0.01


class Pvse(Adapted):
    """Trains LoRA and an attention over the tokens of each tower.

    A side's outputs are `set`, (b, K, d), unit vectors, and `residual`, (b, K, d).
    """

    def __init__(self, backbone: Backbone, settings: Finetune) -> None:
        count = settings.adapter.embeddings
        super().__init__(backbone, settings, lambda width: _Head(width, backbone.width, count))

    def _share(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        """Triplets, and for K above 1 diversity of the residuals and discrepancy of the sides."""
        x, y = images["set"], texts["set"]
        share = triplet(x, y, max_over_pairs, targets, rows, MARGIN)
        if x.shape[1] == 1:
            return share
        alike = diversity(images["residual"][rows]) + diversity(texts["residual"][rows])
        return share + DIVERSITY * weighted_mean(alike, targets, rows) + DISCREPANCY * mmd(x, y, rows)

    def _similarity(self, images: Outputs, texts: Outputs) -> Tensor:
        """The largest of K x K cosines."""
        return all_pairs(max_over_pairs, images["set"], texts["set"])


class _Head(nn.Module):
    def __init__(self, token_width: int, width: int, count: int) -> None:
        super().__init__()
        self.polysemous = Polysemous(token_width, width, count)

    def forward(self, seen: Seen) -> Outputs:
        vectors, residuals = self.polysemous(seen)
        return {"set": unit(vectors), "residual": residuals}
