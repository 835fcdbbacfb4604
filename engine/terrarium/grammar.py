"""What is said about a scene: its description, its elements, associations and captions."""

import json
from collections.abc import Sequence
from typing import Final

import numpy as np

from engine.terrarium.lexicon import LEVELS, valid_associations
from engine.terrarium.world import Element, Scene

_PLACES: Final = {
    "meadow": "in the meadow",
    "snow": "in the snow",
    "desert": "in the desert",
    "sea": "on the sea",
    "street": "in the street",
    "forest": "in the forest",
}
_TIMES: Final = {
    "dawn": "at dawn",
    "noon": "at noon",
    "dusk": "at dusk",
    "night": "at night",
    "storm": "in the storm",
    "fog": "in the fog",
}
# One manner of speaking per level, from the plain to the poetic. Words in braces: the association,
# the element's colour and kind, the place, the time, and another element's colour and kind.
_TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "synonym": (
        "a {colour} {word} {place} {time}",
        "the {colour} {word} waits {place}",
        "just a {colour} {word} {time}",
        "a {colour} {word} near the {hue} {other}",
    ),
    "broader": (
        "some {colour} {word} {place} {time}",
        "one {word} in {colour} {place}",
        "this {colour} {word} seen {time}",
        "one {colour} {word} beside the {hue} {other}",
    ),
    "context": (
        "{word} with a {colour} {kind} {place}",
        "the {colour} {kind} brings {word} {time}",
        "a day of {word} and a {colour} {kind}",
        "{word} for the {kind} and the {other}",
    ),
    "concept": (
        "the {colour} {kind} speaks of {word} {time}",
        "so much {word} in one {colour} {kind}",
        "a {colour} {kind} teaches {word} {place}",
        "{word} joins the {kind} and the {hue} {other}",
    ),
    "metaphor": (
        "{word} wears {colour} {time}",
        "{word} sings in {colour} {place}",
        "whispers of {word} and a {colour} {kind}",
        "between {kind} and {other} {word} dreams {time}",
    ),
}


def description(scene: Scene) -> str:
    """The one right description, for example "a red fish top left in the snow at dusk"."""
    parts = [f"a {item.colour} {item.kind} {item.position}" for item in scene.elements]
    return f"{', '.join(parts)}, {_PLACES[scene.ground]} {_TIMES[scene.light]}"


def literal(scene: Scene, rng: np.random.Generator) -> str:
    """A true sentence about a part of what can be seen, such as "a red fish at dusk"."""
    order = rng.permutation(len(scene.elements))[: int(rng.integers(1, len(scene.elements) + 1))]
    parts = [f"a {scene.elements[i].colour} {scene.elements[i].kind}" for i in order]
    where = _PLACES[scene.ground] if rng.random() < 0.7 else ""
    when = _TIMES[scene.light] if rng.random() < 0.7 else ""
    return " ".join([" and ".join(parts), where, when]).strip().replace("  ", " ")


def elements_answer(scene: Scene) -> str:
    """The elements as the JSON that the elements prompt asks for."""
    return json.dumps({"elements": [{"word": kind, "pos": "noun"} for kind in scene.kinds]})


def associations(scene: Scene, kind: str, rng: np.random.Generator) -> dict[str, list[str]]:
    """Three different valid words per level, drawn and ordered at random."""
    drawn = {}
    for level in LEVELS:
        words = sorted(valid_associations(scene, kind, level))
        drawn[level] = [words[number] for number in rng.permutation(len(words))[:3]]
    return drawn


def captions(scene: Scene, kind: str, level: str, association: str) -> tuple[str, ...]:
    """Every true caption of an element at a level, each of at most nine words.

    Args:
        scene: The scene.
        kind: The kind of one of its elements.
        level: One of `LEVELS`; decides the manner of speaking.
        association: The word that the captions contain.

    Returns:
        At least three captions, the same at every call.
    """
    item = scene.element(kind)
    others: Sequence[Element] = [other for other in scene.elements if other is not item]
    templates = _TEMPLATES[level]
    said = [
        template.format(
            word=association,
            colour=item.colour,
            kind=item.kind,
            place=_PLACES[scene.ground],
            time=_TIMES[scene.light],
            hue=other.colour,
            other=other.kind,
        )
        for template in templates
        for other in (others if "{other}" in template else (item,))
    ]
    return tuple(said)


def vocabulary() -> tuple[str, ...]:
    """Every word the sentences are made of, apart from elements, colours and associations."""
    text = " ".join(
        [*_PLACES.values(), *_TIMES.values()]
        + [template for templates in _TEMPLATES.values() for template in templates]
    )
    return tuple(sorted({word for word in text.split() if word.isalpha()}))
