"""Texts about scenes that nothing is mined from and nothing trained on: what retrieval is measured with.

Each set belongs to the same scenes. A scene's texts are its own alone: where another scene has
brought forth the same text already, a text is drawn again. Still, a text may be true of several
scenes ("a red fish" of every one with a red fish); `knower` tells how well one who knows all of the
scenes and of the lexicon would find the right one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.terrarium.grammar import captions, description, literal
from engine.terrarium.lexicon import LEVELS, valid_associations
from engine.terrarium.verses import metaphor, poem
from engine.terrarium.world import COLOURS, KINDS, Scene, scene

#: Of the held-out scenes. Scenes to mine from have other seeds, those of the embedded models'
#: training are `TRAINING_SEED` and above.
SEED: Final = 900_000
#: How often a text is drawn until it is given up, since all of them are others' already.
_DRAWS: Final = 20

Draw = Callable[[Scene, np.random.Generator], str]


@dataclass(frozen=True)
class TextSet:
    """Texts of one manner of speaking.

    Attributes:
        name: `literal`, one of `LEVELS`, `poems` or `metaphors`.
        scenes: (m,), int64: the number of each text's scene.
        texts: m, all different.
    """

    name: str
    scenes: NDArray[np.int64]
    texts: tuple[str, ...]


def held_out_scenes(count: int, seed: int = SEED) -> list[Scene]:
    """The first scenes of a seed, the held-out one by default."""
    return [scene(seed, number) for number in range(count)]


def text_sets(scenes: Sequence[Scene], seed: int = SEED) -> list[TextSet]:
    """Every set of texts about the scenes.

    Of each scene there are, as far as other scenes leave it some: its description and a literal
    sentence; at each level a caption of each element, with an association drawn from the valid
    ones; two poems; and as many metaphors as it has elements.

    Args:
        scenes: What the texts are about.
        seed: Decides what is drawn, for each scene and set by itself.

    Returns:
        `literal`, the levels in order, `poems`, `metaphors`.
    """
    drawn = {"literal": _literal, **{level: _captions(level) for level in LEVELS}}
    drawn |= {"poems": lambda _: [poem, poem], "metaphors": lambda one: [metaphor] * len(one.kinds)}
    return [_set(number, name, draws, scenes, seed) for number, (name, draws) in enumerate(drawn.items())]


def knower(scenes: Sequence[Scene], texts: Sequence[str]) -> NDArray[np.float64]:
    """How well each scene fits each text for one who knows everything that is true of the scenes.

    Counted are the words of a text that hold of a scene: kinds, colours, ground, light, every
    association that is valid for one of its elements, and each colour right before its kind. Of
    scenes with the same count the one of which less is true fits better, since of such a scene
    this was likelier to be said.

    Returns:
        (scenes, texts) float64; scenes that can be told apart no further are equal.
    """
    said = [_pieces(text) for text in texts]
    scores = np.empty((len(scenes), len(texts)))
    for row, one in enumerate(scenes):
        true = _truths(one)
        scores[row] = [len(pieces & true) + 1 / (1 + len(true)) for pieces in said]
    return scores


def _literal(one: Scene) -> list[Draw]:
    return [lambda which, _: description(which), literal]


def _captions(level: str) -> Callable[[Scene], list[Draw]]:
    """What draws a caption at a level, for each of a scene's elements."""

    def of_kind(kind: str) -> Draw:
        def draw(one: Scene, rng: np.random.Generator) -> str:
            words = sorted(valid_associations(one, kind, level))
            said = captions(one, kind, level, words[int(rng.integers(len(words)))])
            return said[int(rng.integers(len(said)))]

        return draw

    return lambda one: [of_kind(kind) for kind in one.kinds]


def _set(
    stream: int, name: str, draws: Callable[[Scene], list[Draw]], scenes: Sequence[Scene], seed: int
) -> TextSet:
    owner: dict[str, int] = {}
    for number, one in enumerate(scenes):
        # A stream of its own, so that no scene's texts hang on how many others have.
        rng = np.random.default_rng((seed, stream, one.seed, one.index))
        for draw in draws(one):
            for _ in range(_DRAWS):
                text = draw(one, rng)
                if text not in owner:
                    owner[text] = number
                    break
    return TextSet(name, np.array(list(owner.values()), np.int64), tuple(owner))


def _truths(one: Scene) -> frozenset[str]:
    true = {one.ground, one.light}
    for item in one.elements:
        true |= {item.kind, item.colour, f"{item.colour} {item.kind}"}
        true = true.union(*(valid_associations(one, item.kind, level) for level in LEVELS))
    return frozenset(true)


def _pieces(text: str) -> frozenset[str]:
    """The words of a text, and a colour with the kind that follows it as one more."""
    words = text.split()
    pairs = itertools.pairwise(words)
    return frozenset(words) | {f"{a} {b}" for a, b in pairs if a in COLOURS and b in KINDS}
