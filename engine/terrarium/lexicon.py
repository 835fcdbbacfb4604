"""What the elements of a scene evoke, at each of the five levels of abstraction.

The words are in ``lexicon.txt`` and ``contexts.txt`` beside this module. Levels one and two
depend on the kind alone, level three on what kind of thing stands on which ground, levels four and
five on the kind and the mood of the light.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from engine.terrarium.world import Scene

LEVELS: Final = ("synonym", "broader", "context", "concept", "metaphor")
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """The words of one kind; ``concept`` and ``metaphor`` are keyed by mood."""

    family: str
    synonym: frozenset[str]
    broader: frozenset[str]
    concept: dict[str, frozenset[str]]
    metaphor: dict[str, frozenset[str]]


def valid_associations(scene: Scene, kind: str, level: str) -> frozenset[str]:
    """The words that an element of a scene may evoke.

    Args:
        scene: The context.
        kind: The kind of one of its elements.
        level: One of `LEVELS`.

    Returns:
        At least three nouns, the kind itself never among them.

    Raises:
        KeyError: No such kind.
        ValueError: No such level.
    """
    entry = entries()[kind]
    match level:
        case "synonym":
            return entry.synonym
        case "broader":
            return entry.broader
        case "context":
            return contexts()[entry.family, scene.ground]
        case "concept":
            return entry.concept[scene.mood]
        case "metaphor":
            return entry.metaphor[scene.mood]
    raise ValueError(f"level {level!r} is none of {', '.join(LEVELS)}")


def words() -> tuple[str, ...]:
    """Every word that some element evokes somewhere, sorted."""
    found: set[str] = set()
    for entry in entries().values():
        found |= entry.synonym | entry.broader
        found = found.union(*entry.concept.values(), *entry.metaphor.values())
    return tuple(sorted(found.union(*contexts().values())))


@cache
def entries() -> dict[str, Entry]:
    """The lexicon by kind."""
    found = {}
    for kind, family, *columns in _rows("lexicon.txt"):
        synonym, broader, *moody = (frozenset(column.split()) for column in columns)
        found[kind] = Entry(
            family,
            synonym,
            broader,
            {"bright": moody[0], "dark": moody[1]},
            {"bright": moody[2], "dark": moody[3]},
        )
    return found


@cache
def contexts() -> dict[tuple[str, str], frozenset[str]]:
    """The words of level "context" by family and ground."""
    return {(family, ground): frozenset(words.split()) for family, ground, words in _rows("contexts.txt")}


def _rows(name: str) -> Iterator[list[str]]:
    for line in (_HERE / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield [cell.strip() for cell in line.split("|")]
