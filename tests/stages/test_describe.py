import asyncio

from PIL import Image

from engine.decoding import Look
from engine.generation.prompts import parse_prompt
from engine.generation.protocol import Picture, Request
from engine.recipe import Describe, Sampling
from engine.stages.describe import DescribeStage
from engine.stages.stage import Tally
from tests.stages.answers import Answers

PROMPT = parse_prompt("describe", "--- user ---\n$image", set(), True)
PICTURE = Picture("1", Image.new("RGB", (8, 8)))


def test_a_greedy_description_is_asked_again_warmer() -> None:
    settings = Describe(generator="g", attempts=3, sampling=Sampling(temperature=0))

    def answer(request: Request) -> str:
        return " " if request.sampling.temperature == 0 else "a  fox\nruns"

    generator = Answers(answer)
    stage = DescribeStage(settings, PROMPT, 0, Look(10**8, at_most=1024), "f")
    rows = asyncio.run(stage.run([{"id": "1"}], [PICTURE], generator, Tally()))
    assert rows == [{"description": "a fox runs", "error": None}]
    assert len(generator.asked) == 2


def test_half_a_character_is_no_reason_to_stop() -> None:
    """A proxy that cuts text in UTF-16 leaves half of a pair, which Arrow cannot hold."""
    stage = DescribeStage(Describe(generator="g"), PROMPT, 0, Look(10**8, at_most=1024), "f")
    generator = Answers(lambda request: "a red car \ud83d")
    rows = asyncio.run(stage.run([{"id": "1"}], [PICTURE], generator, Tally()))
    assert rows == [{"description": "a red car ?", "error": None}]
