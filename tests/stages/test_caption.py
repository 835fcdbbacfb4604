import asyncio
from typing import Any

import pytest
from PIL import Image

from engine.decoding import Look
from engine.generation.prompts import parse_prompt
from engine.generation.protocol import Picture, Request
from engine.recipe import Caption, Sampling
from engine.schema import LEVELS
from engine.stages.caption import CaptionChecks, CaptionStage, first_line
from engine.stages.stage import Tally
from tests.stages.answers import Answers

NAMES = {"element", "others", "level", "association", "max_words"}
PROMPT = parse_prompt("caption", "be brief\n--- user ---\n$image\n$level $association", NAMES, True)
PICTURE = Picture("1", Image.new("RGB", (8, 8)))


def element(word: str) -> dict[str, Any]:
    return {"element": word, **{level: [f"{word}{level}{i}" for i in "abc"] for level in LEVELS}}


ROW = {"id": "1", "key": "k", "elements": [element("fox"), element("kite"), element("tree"), element("boat")]}


def stage(**settings: Any) -> CaptionStage:
    return CaptionStage(Caption(generator="g", **settings), PROMPT, 0, Look(10**8, at_most=1024), "f")


def run(stage: CaptionStage, answer: Any, row: dict[str, Any] = ROW) -> tuple[dict[str, Any], Tally, Answers]:
    tally, generator = Tally(), Answers(answer)
    return asyncio.run(stage.run([row], [PICTURE], generator, tally))[0], tally, generator


def good(request: Request) -> str:
    return f"a day of {request.values['association']}"


def test_four_elements_make_twenty_captions() -> None:
    row, tally, generator = run(stage(), good)
    captions = row["creative_captions"]
    assert len(captions) == 20 == tally.counts["captions"]
    assert {caption["level"] for caption in captions} == set(LEVELS)
    assert all(
        caption["flag"] is None and caption["association"] in caption["caption"] for caption in captions
    )
    assert [request.system for request in generator.asked] == ["be brief"] * 20
    assert all(request.content[0] is PICTURE for request in generator.asked)


def test_all_three_associations_can_be_drawn() -> None:
    row, _, _ = run(stage(draw="all"), good)
    assert len(row["creative_captions"]) == 60


def test_a_draw_depends_on_its_own_place_only() -> None:
    every, some = stage(), stage(levels=("metaphor",))
    metaphors = [one.association for one in every.draw(ROW) if one.level == "metaphor"]
    assert [one.association for one in some.draw(ROW)] == metaphors
    fewer = {**ROW, "elements": ROW["elements"][1:]}
    assert [o.association for o in every.draw(fewer)] == [o.association for o in every.draw(ROW)][5:]


def test_draws_cover_all_words_over_samples() -> None:
    drawn = {stage(levels=("concept",)).draw({**ROW, "id": str(i)})[0].association for i in range(30)}
    assert drawn == {"foxconcepta", "foxconceptb", "foxconceptc"}


def test_a_caption_that_fails_is_written_again_then_flagged() -> None:
    def answer(request: Request) -> str:
        return good(request) if request.values["element"] != "fox" else "no such word"

    row, tally, generator = run(stage(attempts=2), answer)
    foxes = [caption for caption in row["creative_captions"] if caption["element"] == "fox"]
    assert {(c["attempts"], c["flag"]) for c in foxes} == {(2, "does not contain its association")}
    assert foxes[0]["caption"] == "no such word"
    assert tally.flags == {"does not contain its association": 5}
    assert len(generator.asked) == 25
    assert row["error"] is None


def test_levels_without_words_are_left_out() -> None:
    bare = {**element("fox"), "concept": [], "metaphor": None}
    row, _, _ = run(stage(), good, {**ROW, "elements": [bare]})
    assert [caption["level"] for caption in row["creative_captions"]] == ["synonym", "broader", "context"]
    row, _, _ = run(stage(), good, {**ROW, "elements": []})
    assert row["error"] == "no association to write a caption for"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("the journey begins", None),
        ("The JOURNEY begins!", "repeats another caption"),
        ("one two three four five six seven eight nine journey", "longer than 9 words"),
        ("journeys", "does not contain its association"),
        ("  \n ", "empty caption"),
        ("?!", "empty caption"),
    ],
)
def test_checks(text: str, reason: str | None) -> None:
    checks = CaptionChecks(max_words=9)
    checks.read("journey", "The journey begins")
    if reason is None:
        checks = CaptionChecks(max_words=9)
    assert checks.read("journey", text)[1] == reason


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"A quiet road."', "A quiet road."),
        ("\n\n- A road\nsecond", "A road"),
        ("**A road**", "A road"),
        ("“A road”", "A road"),
        ("A 'road'", "A 'road'"),
        ('"', '"'),
    ],
)
def test_first_line(text: str, line: str) -> None:
    assert first_line(text) == line


def test_a_sample_without_any_caption_is_an_error_with_its_commonest_reason() -> None:
    def refuse(request: Request) -> str:
        raise ValueError("timed out" if request.values["element"] == "fox" else "refused")

    row, tally, _ = run(stage(), refuse)
    assert row == {"creative_captions": None, "error": "refused"}
    assert tally.counts["captions"] == 0

    def empty(request: Request) -> str:
        return good(request) if request.values["association"].startswith("foxmetaphor") else ""

    row, tally, _ = run(stage(), empty)
    assert row["error"] is None and len(row["creative_captions"]) == 20
    assert tally.counts["captions"] == 1


def test_greedy_captions_are_asked_again_warmer() -> None:
    greedy = stage(attempts=2, levels=("concept",), sampling=Sampling(temperature=0, top_p=1))
    _, _, generator = run(greedy, lambda request: "no")
    assert [request.sampling.temperature > 0 for request in generator.asked] == [False] * 4 + [True] * 4
    assert {request.sampling.top_p for request in generator.asked} == {1}
