"""`full`: all weights of the model are trained."""

from __future__ import annotations

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone
from engine.training.methods.contrastive import Contrastive


class Full(Contrastive):
    """Trains every weight."""

    def __init__(self, backbone: Backbone, settings: Finetune) -> None:
        backbone.requires_grad_(True)
        super().__init__(backbone, settings)
