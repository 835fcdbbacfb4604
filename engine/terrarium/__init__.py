"""A small labelled world, and a small vision-language model trained on it, inside the package.

It lets everything run offline, through the same code as with production models: scenes with known
truth (`scene`, `description`, `valid_associations`), tars of them (`engine.terrarium.write`), a
model that describes, associates and captions them (`MODEL_DIR` with the prompts in `PROMPTS_DIR`),
and scores of what it says (`engine.terrarium.evaluate`).
"""

from pathlib import Path
from typing import Final

from engine.terrarium.families import FAMILIES, Family, family_scene
from engine.terrarium.grammar import captions, description
from engine.terrarium.lexicon import LEVELS, valid_associations
from engine.terrarium.render import image
from engine.terrarium.world import COLOURS, GROUNDS, KINDS, LIGHTS, Element, Scene, scene

MODEL_DIR: Final = Path(__file__).parent / "model"
PROMPTS_DIR: Final = Path(__file__).parent / "prompts"

__all__ = [
    "COLOURS",
    "FAMILIES",
    "GROUNDS",
    "KINDS",
    "LEVELS",
    "LIGHTS",
    "MODEL_DIR",
    "PROMPTS_DIR",
    "Element",
    "Family",
    "Scene",
    "captions",
    "description",
    "family_scene",
    "image",
    "scene",
    "valid_associations",
]
