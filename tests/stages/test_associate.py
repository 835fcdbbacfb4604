import asyncio
import json
from typing import Any

import pytest

from engine.generation.prompts import parse_prompt
from engine.generation.protocol import Request
from engine.recipe import Associate, Sampling
from engine.schema import LEVELS
from engine.stages.associate import AssociateStage, read_associations
from engine.stages.stage import Tally
from tests.stages.answers import Answers

ELEMENTS = parse_prompt("elements", "--- user ---\n$description\nelements", {"description", "count"}, False)
PROMPT = parse_prompt("associate", "--- user ---\n$description\n$element", {"description", "element"}, False)
STAGE = AssociateStage(Associate(generator="g", attempts=2), ELEMENTS, PROMPT, None, 0, "f")
ROW = {"id": "1", "key": "k", "captions": [], "description": "a fox and a kite"}


def levels(word: str, count: int = 3) -> dict[str, list[str]]:
    return {level: [f"{word}{level}{'abc'[i]}" for i in range(count)] for level in LEVELS}


def run(answer: Any, row: dict[str, Any] = ROW) -> tuple[dict[str, Any], Tally]:
    tally = Tally()
    rows = asyncio.run(STAGE.run([row], [None], Answers(answer), tally))
    return rows[0], tally


def two_elements(request: Request) -> str:
    if request.task == "elements":
        return json.dumps({"elements": [{"word": "fox", "pos": "noun"}, {"word": "kite", "pos": "noun"}]})
    return json.dumps(levels("x"))


def test_each_element_gets_its_words() -> None:
    row, tally = run(two_elements)
    assert row["error"] is None
    assert [item["element"] for item in row["elements"]] == ["fox", "kite"]
    assert row["elements"][0]["concept"] == ["xconcepta", "xconceptb", "xconceptc"]
    assert tally.counts["associations"] == 30


def test_an_element_that_fails_is_flagged_and_the_others_stay() -> None:
    def answer(request: Request) -> str:
        return "[" * 10**5 if request.values.get("element") == "kite" else two_elements(request)

    row, tally = run(answer)
    assert row["error"] is None
    assert [item["flag"] for item in row["elements"]] == [None, "associations are not the JSON asked for"]
    assert tally.flags == {"associations are not the JSON asked for": 1}


def test_a_sample_without_any_association_is_an_error() -> None:
    row, _ = run(lambda request: two_elements(request) if request.task == "elements" else "no")
    assert row["error"] == "associations are not the JSON asked for"
    row, _ = run(lambda request: "no")
    assert row == {"elements": None, "error": "elements are not the JSON asked for"}


def test_the_original_word_is_never_kept() -> None:
    answer = levels("x") | {"synonym": ["foxes", "vixen", "Red fox"]}
    words, reason = read_associations(json.dumps(answer), word="fox", count=3)
    assert words is not None and words["synonym"] == ["vixen"]
    assert reason == "an association repeats the word"


def test_words_of_a_level_are_distinct() -> None:
    answer = levels("x") | {"metaphor": ["journey", "Journey.", "journey"]}
    words, reason = read_associations(json.dumps(answer), word="ball", count=3)
    assert words is not None and words["metaphor"] == ["journey"]
    assert reason == "too few at level metaphor"


def test_seeds_differ_by_element_and_attempt() -> None:
    generator = Answers(lambda request: two_elements(request) if request.task == "elements" else "no")
    asyncio.run(STAGE.run([ROW], [None], generator, Tally()))
    seeds = [request.seed for request in generator.asked]
    assert len(seeds) == 1 + 2 * 2 == len(set(seeds))


@pytest.mark.parametrize("level", ["sphere", None, 7, {"orb": 1}, ["orb", None], ["orb", True, 7]])
def test_a_level_is_a_list_of_strings(level: Any) -> None:
    answer = json.dumps(levels("x") | {"synonym": level})
    assert read_associations(answer, "ball", 3) == (None, "associations are not the JSON asked for")


def test_the_attempt_with_the_most_words_is_kept() -> None:
    answers = iter([levels("x", 1), levels("y", 2), levels("z", 1)])

    def answer(request: Request) -> str:
        if request.task == "elements":
            return json.dumps({"elements": [{"word": "fox", "pos": "noun"}]})
        return json.dumps(next(answers))

    stage = AssociateStage(Associate(generator="g", attempts=3), ELEMENTS, PROMPT, None, 0, "f")
    rows = asyncio.run(stage.run([ROW], [None], Answers(answer), Tally()))
    element = rows[0]["elements"][0]
    assert element["metaphor"] == ["ymetaphora", "ymetaphorb"]
    assert element["flag"] == "too few at level synonym"


def test_greedy_requests_are_asked_again_warmer() -> None:
    settings = Associate(generator="g", attempts=2, sampling=Sampling(temperature=0))
    asked: dict[str, list[bool]] = {"elements": [], "associate": []}

    def answer(request: Request) -> str:
        greedy = request.sampling.temperature == 0
        asked[request.task].append(greedy)
        return "no" if greedy or request.task == "associate" else two_elements(request)

    asyncio.run(
        AssociateStage(settings, ELEMENTS, PROMPT, None, 0, "f").run([ROW], [None], Answers(answer), Tally())
    )
    assert asked == {"elements": [True, False], "associate": [True, True, False, False]}
