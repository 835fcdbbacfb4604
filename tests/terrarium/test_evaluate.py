"""The scores: right answers get full marks, wrong ones do not."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from engine.terrarium.claims import evokes, holds
from engine.terrarium.evaluate import (
    Question,
    evaluate,
    judge,
    read_associations,
    read_elements,
    score_associations,
    score_caption,
    score_description,
)
from engine.terrarium.grammar import associations, captions, description, elements_answer
from engine.terrarium.lexicon import LEVELS
from engine.terrarium.world import COLOURS, COLUMNS, GROUNDS, KINDS, LIGHTS, ROWS, Scene, scene

TRIO = next(one for one in (scene(8, n) for n in range(99)) if len(one.elements) == 3)
ABSENT = next(kind for kind in KINDS if kind not in TRIO.kinds)


def test_description_score() -> None:
    assert score_description(description(TRIO), TRIO) == (3, 0, 0)
    assert score_description("", TRIO) == (0, 0, 3)
    swapped = description(TRIO).replace(TRIO.kinds[0], ABSENT)
    assert score_description(swapped, TRIO) == (2, 1, 1)
    assert score_description(f"{TRIO.kinds[0]}s everywhere", TRIO) == (0, 0, 3)


def test_association_score() -> None:
    kind = TRIO.kinds[0]
    right = associations(TRIO, kind, np.random.default_rng(1))
    assert score_associations(right, TRIO, kind) == (15, 15)
    assert score_associations({}, TRIO, kind) == (0, 15)
    assert score_associations(right, TRIO, ABSENT) == (0, 15)
    assert score_associations(right | {"synonym": [kind] * 3}, TRIO, kind) == (12, 15)
    assert score_associations(right | {"broader": right["broader"][:1] * 3}, TRIO, kind) == (13, 15)
    crossed = right | {"concept": right["synonym"], "synonym": right["concept"]}
    assert score_associations(crossed, TRIO, kind) == (9, 15)


def test_caption_score() -> None:
    kind = TRIO.kinds[0]
    for level in LEVELS:
        for said in captions(TRIO, kind, level, "grace"):
            assert score_caption(said, "grace", TRIO) == (True, True, True)
            assert not score_caption(said, "gracious", TRIO).contains
    assert not score_caption("grace " + "so " * 9, "grace", TRIO).short
    assert not score_caption("grace alone", "grace", TRIO).grounded
    assert not score_caption(f"grace and a {ABSENT}", "grace", TRIO).grounded


@pytest.mark.parametrize("text", ["", "{", "[]", '{"elements": 3}', '{"synonym": ["a"]}'])
def test_malformed_answers_are_empty(text: str) -> None:
    assert read_elements(text) == []
    assert read_associations(text) == {}


SCENES = [scene(8, number) for number in range(20)]


def _oracle(questions: Sequence[Question]) -> list[str]:
    """Answers from the truth; text-only prompts are matched to scenes by their description."""
    by_description = {description(one): one for one in SCENES}
    rng, answers = np.random.default_rng(0), []
    for question in questions:
        lines = question.prompt.removesuffix("<answer>").split("\n")
        task, *words = lines[-1].split()
        one: Scene = question.shown or by_description[lines[0]]
        if task == "describe":
            answers.append(description(one))
        elif task == "elements":
            answers.append(elements_answer(one))
        elif task == "associate":
            answers.append(json.dumps(associations(one, words[0], rng)))
        else:
            level, kind, association = words
            answers.append(captions(one, kind, level, association)[0])
    return answers


def test_a_knowing_answerer_gets_full_marks() -> None:
    assert set(evaluate(_oracle, SCENES).values()) == {1.0}


def test_who_knows_the_scenes_judges_every_claim_and_who_always_agrees_half_of_them() -> None:
    plain = {*"a and in on the at".split(), *COLOURS, *KINDS, *GROUNDS, *LIGHTS, *ROWS, *COLUMNS}

    def knows(questions: Sequence[Question]) -> list[str]:
        said = [
            (question.prompt.split("shown ")[1].removesuffix("<answer>"), question.shown)
            for question in questions
        ]
        return ["yes" if one and true(text, one) else "no" for text, one in said]

    def true(text: str, one: Scene) -> bool:
        if set(text.replace(",", " ").split()) <= plain:
            return all(holds(text, one))
        return any(all(evokes(text, one, level)) for level in LEVELS)

    many = [scene(8, number) for number in range(100)]
    figures = judge(knows, many)
    assert len(figures) == 1 + len(LEVELS) and set(figures.values()) == {1.0}
    for share in judge(lambda questions: ["yes"] * len(questions), many).values():
        assert 0.4 < share < 0.6
    assert set(judge(lambda questions: [""] * len(questions), many).values()) == {0.0}


def test_a_silent_answerer_gets_none() -> None:
    assert set(evaluate(lambda questions: [""] * len(questions), SCENES).values()) == {0.0}
