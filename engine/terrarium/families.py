"""Families of scenes: kinds of places with things of their own, so that scenes form clusters.

Free scenes (`engine.terrarium.world.scene`) are spread evenly and belong to no group. A family
fixes what is seen at a glance (ground and light) and what may stand there; which of it does, where
and in which colours is left to chance. No ground is shared under the same light, so that pictures of
two families never have the same background.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.terrarium.world import Scene, draw

# Makes the draws of a family's scene independent of those of the free scene of that seed and index.
_STREAM: Final = 1


@dataclass(frozen=True)
class Family:
    """A kind of place.

    Attributes:
        name: What it is called.
        ground: One of `GROUNDS`.
        light: One of `LIGHTS`.
        kinds: The five to seven of `KINDS` that belong there.
    """

    name: str
    ground: str
    light: str
    kinds: tuple[str, ...]


FAMILIES: Final = (
    Family("picnic", "meadow", "noon", ("kite", "balloon", "umbrella", "chair", "guitar", "cat")),
    Family("garden", "meadow", "dusk", ("flower", "butterfly", "bird", "ladder", "chair", "house")),
    Family("winter fair", "snow", "noon", ("tree", "bell", "drum", "candle", "crown", "house")),
    Family("mountain hut", "snow", "night", ("house", "candle", "book", "cat", "key", "ladder")),
    Family("oasis", "desert", "dusk", ("cactus", "tree", "flower", "bird", "umbrella", "drum")),
    Family("launch site", "desert", "night", ("rocket", "flag", "clock", "car", "ladder", "key")),
    Family("harbour", "sea", "dawn", ("boat", "anchor", "fish", "bird", "flag", "bell")),
    Family("shipwreck", "sea", "storm", ("anchor", "crown", "key", "clock", "chair", "fish")),
    Family("parade", "street", "noon", ("drum", "flag", "balloon", "crown", "guitar", "bell")),
    Family("way to work", "street", "fog", ("car", "bicycle", "umbrella", "clock", "book", "cat")),
    Family("fairy wood", "forest", "dawn", ("mushroom", "butterfly", "tree", "flower", "cat", "crown")),
    Family("night camp", "forest", "night", ("guitar", "candle", "chair", "book", "bicycle", "tree")),
)


def family_scene(seed: int, index: int) -> tuple[Family, Scene]:
    """Make the family scene with a seed and an index.

    It has nothing in common with the free scene of the same seed and index but these two numbers.

    Args:
        seed: Any integer >= 0; `TRAINING_SEED` and above are for training.
        index: Number of the scene, >= 0.

    Returns:
        The family that was drawn and a scene of it with 2 to 4 elements; the same at every call, on
        every machine.
    """
    rng = np.random.default_rng((seed, index, _STREAM))
    family = FAMILIES[rng.integers(len(FAMILIES))]
    count = int(rng.integers(2, 5))
    return family, draw(rng, seed, index, count, family.kinds, (family.ground,), (family.light,))
