"""`full`: all weights of the model are trained, or all of one tower."""

from __future__ import annotations

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone
from engine.training.methods.contrastive import Contrastive


class Full(Contrastive):
    """Trains every weight of `towers`, and the factor of the cosines."""

    def __init__(self, backbone: Backbone, settings: Finetune) -> None:
        backbone.train_towers(settings.towers)
        super().__init__(backbone, settings)
