"""The six methods, by name."""

from __future__ import annotations

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone
from engine.training.method import Method


def build_method(backbone: Backbone, settings: Finetune) -> Method:
    """The method of the recipe on a backbone; what it draws at random comes from torch's seed.

    Raises:
        RecipeError: the backbone cannot carry it.
    """
    if settings.gradient_checkpointing:
        backbone.compute_again()
    match settings.method:
        case "full":
            from engine.training.methods.full import Full

            return Full(backbone, settings)
        case "lora":
            from engine.training.methods.low_rank import LowRank

            return LowRank(backbone, settings)
        case "prefix":
            from engine.training.methods.prefix import Prefix

            return Prefix(backbone, settings)
        case "pvse":
            from engine.training.methods.pvse import Pvse

            return Pvse(backbone, settings)
        case "pcme":
            from engine.training.methods.pcme import Pcme

            return Pcme(backbone, settings)
        case "dive":
            from engine.training.methods.dive import Dive

            return Dive(backbone, settings)


__all__ = ["build_method"]
