"""Texts about a scene that are true or false, and which: what the model learns to tell apart.

A text is literal, a description or a sentence as the embedded CLIPs read, or a caption at one of the
five levels, whose association the scene must evoke. False ones are true of another scene, most often of
one that differs in a single respect, so that hardly any can be judged without a look at the image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from engine.terrarium.grammar import captions, description, literal
from engine.terrarium.lexicon import valid_associations, words
from engine.terrarium.world import (
    COLOURS,
    COLUMNS,
    GROUNDS,
    KINDS,
    LIGHTS,
    ROWS,
    TRAINING_SEED,
    Element,
    Scene,
    draw,
)

#: Shares among false texts: of a wholly other scene, and of a caption with a word from anywhere.
_ELSEWHERE, _ANY_WORD = 0.4, 0.3


class Claim(NamedTuple):
    """A text about a scene, and whether each of its words is right there, up to the last that can be told."""

    text: str
    right: list[bool]

    @property
    def true(self) -> bool:
        """Whether all of it is."""
        return all(self.right)


def claim(scene: Scene, rng: np.random.Generator, level: str | None = None) -> Claim:
    """A text about a scene, as often true as false.

    Args:
        scene: What is looked at.
        rng: What decides.
        level: One of `LEVELS` for a caption, None for a literal text.
    """
    if rng.random() < 0.5:
        return judged(_said(scene, rng, level), scene, level)
    while True:
        if level is not None and rng.random() < _ANY_WORD:
            text = _said(scene, rng, level, words())
        else:
            text = _said(_other(scene, rng), rng, level)
        if not (found := judged(text, scene, level)).true:
            return found


def judged(text: str, scene: Scene, level: str | None) -> Claim:
    """The claim that a text is about a scene."""
    return Claim(text, holds(text, scene) if level is None else evokes(text, scene, level))


def holds(text: str, scene: Scene) -> list[bool]:
    """Whether each word of a literal text is so: things, colours and places, ground and light.

    A colour is right where something has it, a kind where something of that colour is one, and so on; what
    follows a wrong word is judged without it.
    """
    right: list[bool] = []
    named = scene.elements
    for word in text.replace(",", "").split():
        of = scene.elements if word in COLOURS else named
        if word in (*COLOURS, *KINDS, *ROWS, *COLUMNS):
            found = _with(word, of)
            named = found or _with(word, scene.elements) or scene.elements
            right.append(bool(found))
        else:
            right.append(word not in {*GROUNDS, *LIGHTS} - {scene.ground, scene.light})
    return right


def _with(word: str, elements: tuple[Element, ...]) -> tuple[Element, ...]:
    return tuple(item for item in elements if word in (item.colour, item.kind, *item.position.split()))


def evokes(text: str, scene: Scene, level: str) -> list[bool]:
    """Whether a caption can still become one that the scene evokes at a level, after each word.

    It ends with the first word after which it cannot, or at the last with which it has to be one.
    """
    left = [
        said.split()
        for kind in scene.kinds
        for word in valid_associations(scene, kind, level)
        for said in captions(scene, kind, level, word)
    ]
    right, spoken = list[bool](), text.split()
    for number, word in enumerate(spoken, 1):
        left = [said for said in left if said[number - 1 : number] == [word]]
        right.append(any(len(said) == number or number < len(spoken) for said in left))
        if not right[-1]:
            break
    return right


def _said(
    scene: Scene, rng: np.random.Generator, level: str | None, associations: tuple[str, ...] = ()
) -> str:
    """A literal text, or a caption at a level with one of the associations, by default the scene's own."""
    if level is None:
        return description(scene) if rng.random() < 0.5 else literal(scene, rng)
    kind = _one(scene.kinds, rng)
    word = _one(associations or sorted(valid_associations(scene, kind, level)), rng)
    return _one(captions(scene, kind, level, word), rng)


def _other(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene that differs from this one: in one respect, or now and then altogether."""
    if rng.random() < _ELSEWHERE:
        return draw(rng, TRAINING_SEED, 0, len(scene.elements), KINDS, GROUNDS, LIGHTS)
    ways = ("colour", "kind", "position", "ground", "light")
    match way := _one(ways, rng):
        case "ground":
            return replace(scene, ground=_another(GROUNDS, (scene.ground,), rng))
        case "light":
            return replace(scene, light=_another(LIGHTS, (scene.light,), rng))
    elements = list(scene.elements)
    number = int(rng.integers(len(elements)))
    item = elements[number]
    match way:
        case "colour":
            elements[number] = replace(item, colour=_another(COLOURS, (item.colour,), rng))
        case "kind":
            elements[number] = replace(item, kind=_another(KINDS, scene.kinds, rng))
        case _:
            elements[number] = replace(item, column=(item.column + int(rng.integers(1, 3))) % 3)
    return replace(scene, elements=tuple(elements))


def _another(choices: tuple[str, ...], without: tuple[str, ...], rng: np.random.Generator) -> str:
    return _one([one for one in choices if one not in without], rng)


def _one(choices: list[str] | tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
