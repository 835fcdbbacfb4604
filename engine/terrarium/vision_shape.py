"""The shape of the embedded model's vision tower."""

from typing import Final

from transformers import CLIPVisionConfig

from engine.terrarium.world import SIDE

PATCH: Final = 8
GRID: Final = SIDE // PATCH
PATCHES: Final = GRID * GRID


def vision_config() -> CLIPVisionConfig:
    """The vision tower's configuration; heads are 64 wide, as every attention backend wants."""
    return CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=576,
        num_hidden_layers=5,
        num_attention_heads=3,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=192,
    )
