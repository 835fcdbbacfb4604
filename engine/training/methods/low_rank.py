"""`lora`: low-rank updates of the attention are trained, and the factor of the cosines stays."""

from __future__ import annotations

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone
from engine.training.methods.contrastive import Contrastive
from engine.training.methods.lora import add_lora


class LowRank(Contrastive):
    """Trains LoRA's matrices in `towers`."""

    def __init__(self, backbone: Backbone, settings: Finetune) -> None:
        add_lora(backbone, settings.adapter, settings.towers)
        super().__init__(backbone, settings)
