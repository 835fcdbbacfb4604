"""The embedded CLIPs: what each is built of, and where its weights lie.

The first is the one that recipes embed with. The others are smaller, begin with other weights and have seen
other scenes: voters on how difficult a caption is, as a pool of public CLIPs from small to large would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.terrarium.vision_shape import HEAD_WIDTH, LAYERS, PATCH, WIDTH
from engine.terrarium.world import SIDE

CONTEXT_LENGTH: Final = 64
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Shape:
    """One embedded CLIP.

    Attributes:
        name: behind `open_clip:`.
        directory: of its config and weights.
        width: of its image tower.
        layers: of its image tower.
        head_width: of attention in both towers.
        text_width: of its text tower, which has three layers.
        own_words: whether it reads the terrarium's words, a token each, and not open_clip's 49,408 tokens,
            whose vectors would be most of a small model.
        seed: of its first weights and of its scenes.
    """

    name: str
    directory: Path
    width: int
    layers: int
    head_width: int
    text_width: int
    own_words: bool = True
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """The config file of open_clip."""
        text: dict[str, Any] = {"context_length": CONTEXT_LENGTH, "vocab_size": 49408}
        if self.own_words:
            from engine.terrarium.tokens import END_ID, build_tokenizer

            text |= {"vocab_size": len(build_tokenizer()), "hf_tokenizer_name": "."}
            text |= {"pool_type": "eos", "eos_id": END_ID}
        width = self.text_width
        text |= {"width": width, "heads": width // self.head_width, "layers": 3}
        vision: dict[str, Any] = {
            "image_size": SIDE,
            "patch_size": PATCH,
            "layers": self.layers,
            "width": self.width,
        }
        vision |= {"head_width": self.head_width, "mlp_ratio": 3.0}
        return {
            "model_cfg": {"embed_dim": 128, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text},
            "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        }


def _voter(width: int, layers: int, seed: int) -> Shape:
    name = f"terrarium-w{width}"
    return Shape(name, _HERE / "voters" / f"w{width}", width, layers, 32, width, seed=seed)


EMBEDDER: Final = Shape(
    "terrarium", _HERE / "clip_model", WIDTH, LAYERS, HEAD_WIDTH, text_width=128, own_words=False
)
SHAPES: Final[Mapping[str, Shape]] = {
    shape.name: shape for shape in (EMBEDDER, _voter(128, 5, 1), _voter(96, 4, 2), _voter(64, 4, 3))
}
