"""Scores of what is said about scenes, and ``python -m engine.terrarium.evaluate [DIRECTORY]``.

The scoring functions are pure and know nothing of models, so they serve any engine's output.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from engine.terrarium.claims import claim
from engine.terrarium.lexicon import LEVELS, valid_associations
from engine.terrarium.prompts import Ask, Question, rendered
from engine.terrarium.world import COLOURS, GROUNDS, KINDS, LIGHTS, Scene, scene

LONGEST_CAPTION: Final = 9
#: Claims about each scene: as many literal ones as captions at each level.
_CLAIMS: Final = 2
_SEED: Final = 500_000


class CaptionScore(NamedTuple):
    """What holds of a caption: its word is in it, it is short, it says nothing false."""

    contains: bool
    short: bool
    grounded: bool


def score_description(text: str, scene: Scene) -> tuple[int, int, int]:
    """Compare the kinds of elements named in a description with those in the scene.

    Returns:
        How many were named rightly, named though absent, and left out.
    """
    named, present = set(_words(text)) & set(KINDS), set(scene.kinds)
    return len(named & present), len(named - present), len(present - named)


def score_associations(answer: Mapping[str, Sequence[str]], scene: Scene, kind: str) -> tuple[int, int]:
    """Count the associations that an element may evoke in its scene, over all levels.

    Args:
        answer: Words by level; a level that is missing counts as three wrong words, and a word
            counts once.
        scene: The context.
        kind: The element; if the scene has none such, every word is wrong.

    Returns:
        How many words are valid, and how many were given.
    """
    valid = given = 0
    for level in LEVELS:
        words = [word.casefold() for word in answer.get(level, ())]
        given += max(len(words), 3)
        if kind in scene.kinds:
            valid += len(set(words) & valid_associations(scene, kind, level))
    return valid, given


def score_caption(text: str, association: str, scene: Scene) -> CaptionScore:
    """Check a caption: contains its association, has at most nine words, and fits the scene.

    It fits when it names at least one colour, ground, light or element, and none that is absent.
    """
    words = _words(text)
    named = set(words) & {*KINDS, *COLOURS, *GROUNDS, *LIGHTS}
    true = {scene.ground, scene.light, *scene.kinds, *(item.colour for item in scene.elements)}
    grounded = bool(named) and named <= true
    return CaptionScore(association.casefold() in words, len(words) <= LONGEST_CAPTION, grounded)


def evaluate(ask: Ask, scenes: Sequence[Scene]) -> dict[str, float]:
    """Put scenes through describe, elements, associate and caption, each fed by the one before.

    Returns:
        Shares from 0 to 1 by name.
    """
    described = ask([Question(rendered("describe"), one, 0.0) for one in scenes])
    prompts = [rendered("elements", description=text) for text in described]
    listed = ask([Question(prompt, None, 0.0) for prompt in prompts])
    asked = [
        (one, text, kind)
        for one, text, answer in zip(scenes, described, listed, strict=True)
        for kind in read_elements(answer)
    ]
    prompts = [rendered("associate", description=text, element=kind) for _, text, kind in asked]
    associated = ask([Question(prompt, None, 0.0) for prompt in prompts])
    wanted = [
        (one, kind, level, words[0])
        for (one, _, kind), answer in zip(asked, associated, strict=True)
        for level, words in read_associations(answer).items()
        if words
    ]
    prompts = [
        rendered("caption", element=kind, level=level, association=word) for _, kind, level, word in wanted
    ]
    captioned = ask([Question(prompt, row[0], 0.7) for prompt, row in zip(prompts, wanted, strict=True)])
    named = sum((Counter(_named(t, s)) for t, s in zip(described, scenes, strict=True)), Counter())
    counted = [
        score_associations(read_associations(answer), one, kind)
        for (one, _, kind), answer in zip(asked, associated, strict=True)
    ]
    scores = [
        score_caption(text, word, one) for text, (one, _, _, word) in zip(captioned, wanted, strict=True)
    ]
    elements = named["right"] + named["missing"]
    found = sum(
        len(set(read_elements(answer)) & set(one.kinds)) for answer, one in zip(listed, scenes, strict=True)
    )
    return {
        "described elements, recall": _share(named["right"], elements),
        "described elements, precision": _share(named["right"], named["right"] + named["wrong"]),
        "listed elements, recall": _share(found, elements),
        "associations valid": _share(sum(v for v, _ in counted), sum(n for _, n in counted)),
        "captions with their association": _share(sum(s.contains for s in scores), len(scores)),
        "captions under ten words": _share(sum(s.short for s in scores), len(scores)),
        "captions grounded": _share(sum(s.grounded for s in scores), len(scores)),
    }


def judge(ask: Ask, scenes: Sequence[Scene], seed: int = 0) -> dict[str, float]:
    """Ask of claims about scenes whether they are true.

    Returns:
        The share answered rightly, from 0 to 1, of literal texts and of captions at each level.
    """
    rng, found = np.random.default_rng(seed), {}
    for level in (None, *LEVELS):
        asked = [(one, claim(one, rng, level)) for one in scenes for _ in range(_CLAIMS)]
        answers = ask([Question(rendered("vqascore", caption=said.text), one, 0.0) for one, said in asked])
        right = sum(
            answer.strip() == ("yes" if said.true else "no")
            for answer, (_, said) in zip(answers, asked, strict=True)
        )
        found[f"claims judged, {level or 'literal'}"] = _share(right, len(asked))
    return found


def read_elements(answer: str) -> list[str]:
    """The words of an answer to the elements prompt; none if it is not the JSON asked for."""
    try:
        return [str(item["word"]) for item in json.loads(answer)["elements"]]
    except (ValueError, KeyError, TypeError):
        return []


def read_associations(answer: str) -> dict[str, list[str]]:
    """The words by level of an answer to the associate prompt; empty if it is not JSON."""
    try:
        levels = json.loads(answer)
        return {level: [str(word) for word in levels[level]] for level in LEVELS}
    except (ValueError, KeyError, TypeError):
        return {}


def _named(text: str, scene: Scene) -> dict[str, int]:
    right, wrong, missing = score_description(text, scene)
    return {"right": right, "wrong": wrong, "missing": missing}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def main() -> None:
    """Read the command line, evaluate a model directory and print the figures."""
    from engine.terrarium import MODEL_DIR
    from engine.terrarium.speaker import Speaker

    parser = argparse.ArgumentParser(description="Check the embedded model on unseen scenes.")
    parser.add_argument("directory", type=Path, nargs="?", default=MODEL_DIR)
    parser.add_argument("--scenes", type=int, default=500, help="how many (default 500)")
    options = parser.parse_args()
    scenes = [scene(_SEED, number) for number in range(options.scenes)]
    speaker = Speaker(options.directory)
    for name, value in (evaluate(speaker, scenes) | judge(speaker, scenes)).items():
        print(f"{name:34} {value:.4f}")


if __name__ == "__main__":
    main()
