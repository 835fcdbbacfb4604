"""What `full`, `lora` and `prefix` share: one vector a side, compared by cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone
from engine.training.losses import LOSSES
from engine.training.method import Method, Outputs, Targets

#: Of the factor's logarithm (Radford et al. 2021, section 2.5): without it training becomes unstable.
#: It is a bound of the parameter: inside of the loss, none that passed it could come back.
_MOST = math.log(100)


class Contrastive(Method):
    """A CLIP's own way: unit vectors of both sides, one of the contrastive losses."""

    def __init__(self, backbone: Backbone, settings: Finetune) -> None:
        super().__init__()
        self.backbone = backbone
        self.sides = tuple(f"{tower}s" for tower in settings.towers)
        self._loss, self._sigmoid = LOSSES[settings.loss], settings.loss == "sigmoid"
        if settings.loss == "sigmoid" and backbone.logit_bias is None:
            # SigLIP's own start (Zhai et al. 2023), for a model that was trained by InfoNCE.
            self.logit_bias: torch.nn.Parameter | None = torch.nn.Parameter(torch.tensor(-10.0))
        else:
            self.logit_bias = backbone.logit_bias

    def image_side(self, pixels: Tensor, levels: Tensor) -> Outputs:
        """`features`: (b, d), unit rows."""
        del levels
        return {"features": unit(self.backbone.embed_image(pixels))}

    def text_side(self, tokens: Tensor) -> Outputs:
        """`features`: (b, d), unit rows."""
        return {"features": unit(self.backbone.embed_text(tokens))}

    def loss(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        """See `Method.loss`."""
        scale = self.backbone.logit_scale.exp()
        return self._loss(images["features"], texts["features"], scale, self.logit_bias, targets, rows)

    @torch.no_grad()
    def settle(self) -> None:
        """Keep the factor of the cosines at 100 at most, as CLIP's authors do; SigLIP has no such limit."""
        if self.backbone.logit_scale.requires_grad and not self._sigmoid:
            self.backbone.logit_scale.clamp_(max=_MOST)

    def similarity(self, images: Outputs, texts: Outputs) -> Tensor:
        """Cosines, (n, m)."""
        return images["features"] @ texts["features"].T


def unit(vectors: Tensor) -> Tensor:
    """Unit rows, float32."""
    return functional.normalize(vectors.float(), dim=-1)
