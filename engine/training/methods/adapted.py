"""What `pvse`, `pcme` and `dive` share: a frozen backbone with LoRA, and a head on each tower."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.recipe.finetune import Finetune
from engine.training.backbone import Backbone, Seen
from engine.training.method import Method, Outputs, Targets
from engine.training.methods.lora import add_lora


class Adapted(Method):
    """One head for images and one for captions, over all tokens of a tower and its pooled vector.

    METHODS B12: the official modules as adapters on a frozen CLIP with LoRA. Whatever the towers
    compute in, losses and similarities are of float32 or float64.

    Args:
        backbone: a vision transformer and a text transformer.
        settings: the recipe's section.
        head: from the width of a tower's tokens to a module from `Seen` to `Outputs`.

    Raises:
        RecipeError: the image tower is no vision transformer, or LoRA does not fit the towers.
    """

    def __init__(self, backbone: Backbone, settings: Finetune, head: Callable[[int], nn.Module]) -> None:
        super().__init__()
        backbone.places(settings.method, read=True)
        add_lora(backbone, settings.adapter)
        self.backbone = backbone
        self.image_head = head(backbone.image_token_width)
        self.text_head = head(backbone.text_token_width)

    def image_side(self, pixels: Tensor, levels: Tensor) -> Outputs:
        """What the head of the images says; each method's class tells the names."""
        del levels
        return _said(self.image_head, self.backbone.see(pixels))

    def text_side(self, tokens: Tensor) -> Outputs:
        """What the head of the captions says, under the same names as of images."""
        return _said(self.text_head, self.backbone.read(tokens))

    def loss(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        """See `Method.loss`."""
        first, stop, _ = rows.indices(len(targets.owners))
        if stop <= first:
            return torch.zeros((), device=targets.weights.device)
        with torch.autocast(targets.weights.device.type, enabled=False):
            return self._share(_precise(images), _precise(texts), targets, slice(first, stop))

    @torch.no_grad()
    def similarity(self, images: Outputs, texts: Outputs) -> Tensor:
        """(n, m), without gradient."""
        device = next(iter(images.values())).device
        with torch.autocast(device.type, enabled=False):
            return self._similarity(_precise(images), _precise(texts))

    def _share(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        """The loss of at least one row, of outputs in float32 or float64."""
        raise NotImplementedError

    def _similarity(self, images: Outputs, texts: Outputs) -> Tensor:
        """(n, m) of outputs in float32 or float64."""
        raise NotImplementedError


def _said(head: nn.Module, seen: Seen) -> Outputs:
    # A backbone in half precision may stand below a head in float32.
    kind = next(head.parameters()).dtype
    said: Outputs = head(Seen(seen.pooled.to(kind), seen.tokens.to(kind), seen.valid))
    return said


def _precise(outputs: Outputs) -> Outputs:
    return {
        name: value.to(torch.promote_types(value.dtype, torch.float32)) for name, value in outputs.items()
    }
