"""What the rest of training knows of a method: two sides of a pair in, a loss and similarities out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from engine.training.backbone import Backbone

#: What one side says of its rows: named tensors, each (rows, ...). Rows of several may be joined.
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Targets:
    """What a batch of b pairs is.

    Attributes:
        owners: (b,), int64: the number of each pair's image; pairs of one image share it.
        levels: (b,), int64: of abstraction, 0 to 4; -1 of captions that came with the images.
        weights: (b,), float32: of each pair in the loss.
        seed: decides what the loss draws at random; the same on every worker.
    """

    owners: Tensor
    levels: Tensor
    weights: Tensor
    seed: int


class Method(nn.Module):
    """A way to train a backbone.

    Of `parameters()`, those with `requires_grad` are trained, and only they are kept in
    checkpoints: everything else must be what the backbone was loaded with.
    """

    backbone: Backbone
    #: The sides whose outputs depend on what is trained: "images", "texts". The other one's tower is
    #: frozen and passed once a step.
    sides: tuple[str, ...] = ("images", "texts")

    def image_side(self, pixels: Tensor, levels: Tensor) -> Outputs:
        """What is said of images.

        Args:
            pixels: (b, 3, height, width).
            levels: (b,), as in `Targets`; only `prefix` reads them.
        """
        raise NotImplementedError

    def text_side(self, tokens: Tensor) -> Outputs:
        """What is said of captions, (b, context length) tokens."""
        raise NotImplementedError

    def loss(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        """A worker's share of the loss of a batch: over any cut into `rows`, shares add up to the whole.

        Args:
            images, texts: of the whole batch, row i of one belongs to row i of the other.
            targets: of the whole batch.
            rows: for which this worker answers. Terms that are no sum over rows are shared by length.

        Returns:
            A scalar, float32 or float64, with gradients to the outputs and to the loss's own
            parameters.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """Bring trained parameters back within their bounds; called after each step."""

    def similarity(self, images: Outputs, texts: Outputs) -> Tensor:
        """(n, m): how near each of m captions is to each of n images; larger is nearer."""
        raise NotImplementedError

    @property
    def similarity_settings(self) -> dict[str, float]:
        """What one must know beside the vectors to compare them; see `engine.encoders.own_similarity`."""
        return {}
