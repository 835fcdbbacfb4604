"""Poems and metaphors about scenes: texts to test with, phrased as no caption of `grammar` is.

They say what a scene evokes at the levels concept and metaphor, in the lexicon's words. Of what can
be seen they name one thing, and never a kind together with its colour: a line of a real poem often
names a thing or an hour, hardly ever enough to tell a picture by. So who knows only what can be
seen is left with every scene that has this thing; who knows what things evoke finds the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from engine.terrarium.lexicon import valid_associations
from engine.terrarium.world import Scene

#: Lines of a poem after the first one; each speaks of one element.
_VERSES: Final = 3

# The first line of a poem, by what it names: the one thing in it that can be seen.
_OPENINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "light": (
        "all through the {seen} i lay awake",
        "before the {seen} had an end",
        "who listens to the {seen} , if not we",
    ),
    "ground": (
        "far out , where the {seen} forgets our names",
        "come , walk the {seen} until we are old",
        "nobody owns the {seen} , friend",
    ),
    "colour": (
        "as though every hour turned {seen}",
        "how {seen} the years have become",
        "i shut my eyes , and all is {seen}",
    ),
    "kind": (
        "ask the {seen} , it will not tell",
        "o {seen} , what have you done",
        "once there was a {seen} , long before us",
    ),
}
# Its other lines; one element's word of level concept and one of level metaphor in each.
_LINES: Final = (
    "here {concept} bends down to kiss {metaphor}",
    "what is {concept} , if not {metaphor}",
    "my {metaphor} , my tired {concept}",
    "i took {metaphor} by its hand and called it {concept}",
    "no {concept} without {metaphor} , they say",
    "slowly {concept} becomes {metaphor}",
    "{metaphor} knocks , and {concept} lets her in",
    "give me {concept} , or give me {metaphor}",
)
# Metaphors, each of one element, by what they name of what can be seen.
_METAPHORS: Final[Mapping[str, tuple[str, ...]]] = {
    "light": (
        "{concept} is but {metaphor} under another {seen}",
        "every {seen} is a door from {concept} into {metaphor}",
        "{metaphor} drinks the {seen} as if it were {concept}",
    ),
    "ground": (
        "{metaphor} is a {seen} we cross to reach {concept}",
        "{concept} : that {seen} which {metaphor} ploughs",
        "through our {seen} runs {metaphor} , mother of {concept}",
    ),
    "colour": (
        "{concept} , painted {seen} , answers to {metaphor}",
        "{metaphor} has {seen} blood , and {concept} is its heart",
        "dip {concept} into {seen} and {metaphor} comes out",
    ),
}


def poem(scene: Scene, rng: np.random.Generator) -> str:
    r"""Four short lines about a scene.

    The first names one thing that can be seen: the light, the ground, the colour of an element or
    the kind of one. Each other line speaks of an element, by a word of its level concept and one
    of its level metaphor; up to three elements have a line each, and of fewer the first ones have
    several. No word is used twice as long as the lexicon has others.

    Args:
        scene: What it is about.
        rng: Decides; the same state gives the same poem.

    Returns:
        Lower case, lines parted by "\n", at most 64 tokens of CLIP.
    """
    opening = _opened(scene, rng, _OPENINGS)
    order = rng.permutation(len(scene.elements))
    kinds = [scene.kinds[order[number % len(order)]] for number in range(_VERSES)]
    chosen = rng.permutation(len(_LINES))[:_VERSES]
    used: set[str] = set()
    lines = [
        _LINES[number].format(**_evoked(scene, kind, rng, used))
        for number, kind in zip(chosen, kinds, strict=True)
    ]
    return "\n".join([opening, *lines])


def metaphor(scene: Scene, rng: np.random.Generator) -> str:
    """One sentence about one element of a scene: a concept of it is said to be a metaphor of it.

    It names one thing that can be seen, the light, the ground or a colour, but no element.

    Args:
        scene: What it is about.
        rng: Decides; the same state gives the same sentence.
    """
    kind = scene.kinds[int(rng.integers(len(scene.kinds)))]
    return _opened(scene, rng, _METAPHORS, **_evoked(scene, kind, rng, set()))


def _opened(
    scene: Scene, rng: np.random.Generator, templates: Mapping[str, Sequence[str]], **words: str
) -> str:
    """A template with the one thing it names of what can be seen, and with what is evoked."""
    item = scene.elements[int(rng.integers(len(scene.elements)))]
    seen = {"light": scene.light, "ground": scene.ground, "colour": item.colour, "kind": item.kind}
    named = list(templates)[int(rng.integers(len(templates)))]
    choice = templates[named]
    return choice[int(rng.integers(len(choice)))].format(seen=seen[named], **words)


def _evoked(scene: Scene, kind: str, rng: np.random.Generator, used: set[str]) -> dict[str, str]:
    """A word of each of the two levels, not among those `used`, to which they are added."""
    words = {}
    for level in ("concept", "metaphor"):
        valid = sorted(valid_associations(scene, kind, level))
        fresh = [word for word in valid if word not in used] or valid
        words[level] = fresh[int(rng.integers(len(fresh)))]
        used.add(words[level])
    return words


def templates() -> tuple[str, ...]:
    """Every line of which poems and metaphors are made, with its words in braces."""
    groups = [*_OPENINGS.values(), _LINES, *_METAPHORS.values()]
    return tuple(line for group in groups for line in group)
