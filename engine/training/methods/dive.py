"""`dive`: a diverse set of K vectors a side, compared as sets (Kim et al. 2023; METHODS B12)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone, Seen
from engine.training.method import Outputs, Targets
from engine.training.methods.adapted import Adapted
from engine.training.methods.contrastive import unit
from engine.training.methods.slots import Slots
from engine.training.sets import all_pairs, mmd, smooth_chamfer, triplet, uniformity, weighted_mean

#: a of smooth-Chamfer, in training and retrieval (METHODS B12: --temperature 16 of the script).
SHARPNESS = 16.0
#: Of the hinge, over the hardest negatives (METHODS B12: --margin, --max_violation).
MARGIN = 0.2
#: Weights of the terms that bring both sides together and slots apart (--mmd_weight, --unif_weight).
DISCREPANCY, UNIFORMITY = 0.01, 0.01

_similarity = partial(smooth_chamfer, sharpness=SHARPNESS)


class Dive(Adapted):
    """Trains LoRA and slots that compete for the tokens of each tower.

    A side's outputs are `set`, (b, K, d), unit vectors, and `slots`, (b, K, d).
    """

    def __init__(self, backbone: Backbone, settings: Finetune) -> None:
        count = settings.adapter.embeddings
        super().__init__(backbone, settings, lambda width: _Head(width, backbone.width, count))

    def _share(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        """Triplets, discrepancy of the sides, and for K above 1 uniformity of the slots."""
        x, y = images["set"], texts["set"]
        share = triplet(x, y, _similarity, targets, rows, MARGIN) + DISCREPANCY * mmd(x, y, rows)
        if x.shape[1] == 1:
            return share
        crowded = uniformity(images["slots"][rows]) + uniformity(texts["slots"][rows])
        return share + UNIFORMITY * weighted_mean(crowded, targets, rows)

    @property
    def similarity_settings(self) -> dict[str, float]:
        """See `Method.similarity_settings`."""
        return {"sharpness": SHARPNESS}

    def _similarity(self, images: Outputs, texts: Outputs) -> Tensor:
        """Smooth-Chamfer similarity."""
        return all_pairs(_similarity, images["set"], texts["set"])


class _Head(nn.Module):
    """Each element is LayerNorm(global) + slot, as a unit vector."""

    def __init__(self, token_width: int, width: int, count: int) -> None:
        super().__init__()
        self.slots = Slots(token_width, width, count)
        self.norm = nn.LayerNorm(width)

    def forward(self, seen: Seen) -> Outputs:
        slots = self.slots(seen)
        return {"set": unit(self.norm(seen.pooled)[:, None] + slots), "slots": slots}
