import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from engine.errors import EngineDied, RecipeError
from engine.generation import build_generator, generator_digest
from engine.generation.protocol import Picture, Request, Response
from engine.generation.scripted import ScriptedGenerator, answer
from engine.recipe import Sampling, Scripted
from engine.schema import LEVELS

IMAGE = Image.new("RGB", (2, 2))


def ask(task: str, picture: str | None = None, seed: int = 1, **values: str) -> Request:
    content = (Picture(picture, IMAGE), "go on") if picture else ("go on",)
    return Request(task, content, Sampling(), seed, values=values)


def scripted(**settings: object) -> ScriptedGenerator:
    return ScriptedGenerator(Scripted.model_validate({"backend": "scripted", **settings}))


def test_the_answers_of_one_image_fit_together() -> None:
    description = answer(ask("describe", "a"))
    assert description == answer(ask("describe", "a", seed=2)) != answer(ask("describe", "b"))
    elements = json.loads(answer(ask("elements", description=description, count="5")))["elements"]
    assert len({item["word"] for item in elements}) == 4
    assert all(item["word"] in description and item["pos"] == "noun" for item in elements)

    captions = set()
    for item in elements:
        words = json.loads(answer(ask("associate", element=item["word"], words="3")))
        assert list(words) == list(LEVELS)
        for level, three in words.items():
            assert len(set(three)) == 3 and item["word"] not in three
            assert all(word.isalpha() for word in three)
            caption = answer(ask("caption", "a", element=item["word"], level=level, association=three[0]))
            assert three[0] in caption.split() and len(caption.split()) < 10
            captions.add(caption)
    assert len(captions) == 20


def test_answers_come_in_order_and_are_counted() -> None:
    generator = scripted()
    requests = [ask("describe", f"p{n}") for n in range(50)]
    responses = asyncio.run(generator.generate(requests))
    assert [response.text for response in responses] == [answer(request) for request in requests]
    counted = generator.meter.snapshot()
    assert counted["requests"] == 50 and counted["in_flight"] == 0 and counted["errors"] == 0
    assert counted["output_tokens"] == sum(len(response.text.split()) for response in responses)


def test_without_a_delay_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty thousand captions are as many calls of a function, and nothing else."""
    requests = [
        ask("caption", "a", element="fox", level="context", association=f"w{n}") for n in range(30_000)
    ]
    waited, sleep = list[float](), asyncio.sleep

    async def noted(seconds: float) -> None:
        waited.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", noted)
    assert len(asyncio.run(scripted().generate(requests))) == len(requests)
    assert sum(waited) == 0


def test_a_delay_is_a_device_with_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 requests from three callers, ten at a time: three rounds, whoever asked."""
    waited = list[float]()

    async def noted(seconds: float) -> None:
        waited.append(seconds)

    async def three_parts() -> None:
        generator = scripted(delay_s=1000, requests_in_flight=10)
        await asyncio.gather(*(generator.generate([ask("describe", "a")] * 10) for _ in range(3)))

    monkeypatch.setattr(asyncio, "sleep", noted)
    asyncio.run(three_parts())
    assert waited == pytest.approx([1000, 2000, 3000], abs=60)


def test_a_device_is_busy_while_anybody_waits() -> None:
    async def two_parts() -> tuple[float, float]:
        generator = scripted(delay_s=0.1, requests_in_flight=10)
        begin = time.perf_counter()
        await asyncio.gather(*(generator.generate([ask("describe", "a")] * 10) for _ in range(2)))
        return generator.meter.snapshot()["busy_s"], time.perf_counter() - begin

    busy, elapsed = asyncio.run(two_parts())
    assert 0.19 < busy <= elapsed, "what two parts share counts once"


def shout(request: Request) -> str:
    return request.task.upper()


def test_probabilities_depend_on_what_is_shown() -> None:
    def doubt(picture: str, text: str, word: str | None, seed: int = 1) -> Request:
        return Request("vqascore", (Picture(picture, IMAGE), text), Sampling(), seed, probability_of=word)

    asked = [doubt(f"p{n}", "a boat?", "Yes", seed) for seed in (1, 2) for n in range(200)]
    found = [response.probability for response in asyncio.run(scripted().generate(asked))]
    assert found[:200] == found[200:] and len(set(found)) == 200
    shares = [share for share in found if share is not None]
    assert len(shares) == 400 and 0 <= min(shares) < 0.1 and 0.9 < max(shares) < 1
    others = [doubt("p0", "a boat?", "No"), doubt("p0", "a tree?", "Yes"), doubt("p0", "a boat?", None)]
    other, text, none = (r.probability for r in asyncio.run(scripted().generate(others)))
    assert len({found[0], other, text}) == 3 and none is None


def test_a_script_is_named_in_the_recipe() -> None:
    generator = build_generator("s", Scripted(backend="scripted", script=f"{__name__}:shout"))
    assert asyncio.run(generator.generate([ask("describe")]))[0].text == "DESCRIBE"
    for wrong in ("nowhere:f", "engine.errors:nothing", "json", "engine.schema:LEVELS"):
        with pytest.raises(RecipeError, match=r"generators.s: script"):
            build_generator("s", Scripted(backend="scripted", script=wrong))


def test_the_digest_is_of_the_script_alone() -> None:
    plain = generator_digest(Scripted(backend="scripted"))
    assert plain == generator_digest(Scripted(backend="scripted", delay_s=3, cpus=4, requests_in_flight=2))
    assert plain != generator_digest(Scripted(backend="scripted", script=f"{__name__}:shout"))


@pytest.mark.parametrize(
    ("fault", "expected"), [("refuse", "sorry"), ("babble", '{"elements": [{"word": "lan'), ("silence", "")]
)
def test_faults_hit_the_chosen_pictures(fault: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNOTE_FAULT_PICTURES", "b,c")
    generator = scripted(script=f"engine.generation.scripted_faults:{fault}")
    good, bad = asyncio.run(generator.generate([ask("describe", "a"), ask("describe", "b")]))
    assert good.text == answer(ask("describe", "a"))
    assert expected in bad.text and bad.text != answer(ask("describe", "b"))


def test_a_rejected_request_has_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNOTE_FAULT_PICTURES", "b")
    generator = scripted(script="engine.generation.scripted_faults:reject")
    (response,) = asyncio.run(generator.generate([ask("describe", "b")]))
    assert response == Response(error="prompt longer than max_model_len")
    assert generator.meter.snapshot()["errors"] == 1


def test_the_engine_dies_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNOTE_FAULT_MARKER", str(tmp_path / "died"))
    monkeypatch.setenv("CONNOTE_FAULT_TASK", "caption")
    generator = scripted(script="engine.generation.scripted_faults:die")
    asyncio.run(generator.generate([ask("describe", "a")]))
    with pytest.raises(EngineDied):
        asyncio.run(generator.generate([ask("caption", "a")]))
    assert generator.meter.snapshot()["in_flight"] == 0
    assert asyncio.run(generator.generate([ask("caption", "a")]))[0].error is None


def test_the_process_ends_once(tmp_path: Path) -> None:
    code = (
        "from engine.generation.scripted_faults import crash; from engine.generation.protocol import Request;"
        "from engine.recipe import Sampling; print(crash(Request('describe', ('x',), Sampling(), 1)))"
    )
    environment = {"CONNOTE_FAULT_MARKER": str(tmp_path / "crashed"), "PYTHONPATH": ":".join(sys.path)}
    codes = [
        subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL).returncode
        for _ in range(2)
    ]
    assert codes == [1, 0]
