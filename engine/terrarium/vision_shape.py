"""The shape of the embedded models' vision towers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.terrarium.world import SIDE

if TYPE_CHECKING:  # which takes seconds to import, and a model's name alone needs no tower
    from transformers import CLIPVisionConfig

PATCH: Final = 8
GRID: Final = SIDE // PATCH
PATCHES: Final = GRID * GRID
#: Of the describing model's; heads are as wide as every attention backend wants them.
WIDTH, LAYERS, HEAD_WIDTH = 192, 5, 64


def vision_config(width: int = WIDTH, layers: int = LAYERS, head_width: int = HEAD_WIDTH) -> CLIPVisionConfig:
    """A vision tower's configuration, by default the describing model's."""
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // head_width,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=width,
    )
