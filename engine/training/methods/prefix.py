"""`prefix`: five learned tokens of each level beside a frozen model's patches (METHODS A7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from engine.recipe.finetune import Finetune
from engine.schema import LEVELS
from engine.training.backbone import Backbone
from engine.training.method import Outputs
from engine.training.methods.contrastive import Contrastive, unit

#: Prefix tokens of a level (METHODS A7).
TOKENS = 5


class Prefix(Contrastive):
    """Trains what the image tower is told of the level, and nothing else.

    The tokens follow class and patches, after positions are added and before the first layer norm
    (mode "third" of the paper's code); the text tower is as it was.

    Raises:
        RecipeError: the image tower is no vision transformer.
    """

    def __init__(self, backbone: Backbone, settings: Finetune) -> None:
        super().__init__(backbone, settings)
        self.sides = ("images",)
        backbone.places("prefix")
        backbone.requires_grad_(False)
        # As nn.Embedding, which the paper's code uses: standard normal.
        self.tokens = nn.Parameter(torch.randn(len(LEVELS), TOKENS, backbone.image_token_width))

    def image_side(self, pixels: Tensor, levels: Tensor) -> Outputs:
        """`features`: (b, d), unit rows; an image at level -1 is seen as the backbone sees it."""
        plain = levels < 0
        if plain.all():
            return super().image_side(pixels, levels)
        seen = unit(self.backbone.see(pixels, self._tokens_of(levels.clamp(min=0))).pooled)
        if plain.any():
            seen = torch.where(plain[:, None], unit(self.backbone.embed_image(pixels)), seen)
        return {"features": seen}

    def _tokens_of(self, levels: Tensor) -> Tensor:
        """(b, TOKENS, width), of levels from 0 up.

        As `self.tokens[levels]`, whose gradient several threads of a processor add up in whatever order
        they come; that of an embedding has one order on any number of threads.
        """
        return embedding(levels, self.tokens.flatten(1)).view(len(levels), *self.tokens.shape[1:])
