"""The real engine, with random weights: what it says is nonsense, how it says it is not."""

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import EngineDied, RecipeError
from engine.generation import build_generator
from engine.generation.protocol import Picture, Request, Response
from engine.generation.vllm_engine import VllmGenerator, refusal
from engine.recipe import Sampling, Vllm

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

SCHEMA = {
    "type": "object",
    "properties": {
        "word": {"type": "string", "minLength": 1, "maxLength": 12},
        "pos": {"enum": ["noun", "verb"]},
    },
    "required": ["word", "pos"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from engine.terrarium.model import build, save
    from engine.terrarium.tokens import build_tokenizer

    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("vllm") / "model"
    tokenizer = build_tokenizer()
    save(build(tokenizer), tokenizer, directory)
    return directory


class Engine:
    """A generator with the one event loop that all its calls must come from."""

    def __init__(self, settings: Vllm) -> None:
        self.runner = asyncio.Runner()
        self.generator = VllmGenerator(settings)

    def ask(self, *requests: Request) -> list[Response]:
        return self.runner.run(self.generator.generate(requests))

    def close(self) -> None:
        self.runner.run(self.generator.close())
        self.runner.close()

    @property
    def processes(self) -> list[multiprocessing.Process]:
        return [child for child in multiprocessing.active_children() if "EngineCore" in child.name]


def settings_of(model: Path, **values: Any) -> Vllm:
    small = {"kv_cache_memory_bytes": 2**28}
    return Vllm.model_validate({"backend": "vllm", "model": str(model), "engine": small} | values)


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    # In float32, so that it can be compared with the same weights elsewhere.
    made = Engine(settings_of(model, requests_in_flight=32, dtype="float32"))
    yield made
    made.close()


def picture(number: int) -> Picture:
    pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Picture(f"picture-{number}", Image.fromarray(pixels))


def caption(number: int, seed: int, **sampling: Any) -> Request:
    values = Sampling.model_validate({"max_tokens": 12, **sampling})
    return Request("caption", (picture(number), f"caption {seed % 20}"), values, seed)


def test_the_same_seed_says_the_same_whatever_runs_beside_it(engine: Engine) -> None:
    requests = [caption(number, number * 20 + n) for number in (1, 2, 3) for n in range(10)]
    together = engine.ask(*requests)
    assert [response.error for response in together] == [None] * 30
    assert len({response.text for response in together}) > 25, "seeds and pictures make a difference"
    alone = [engine.ask(request)[0] for request in reversed(requests)]
    assert [r.text for r in reversed(alone)] == [r.text for r in together]
    assert all(0 < response.output_tokens <= 12 < response.prompt_tokens for response in together)


def test_each_picture_is_answered_for_itself(engine: Engine) -> None:
    greedy = [caption(number, 0, temperature=0) for number in range(10, 16)]
    first = engine.ask(*greedy)
    assert len({response.text for response in first}) > 1
    # Now from the caches, and in another order.
    again = engine.ask(*reversed(greedy))
    assert [r.text for r in reversed(again)] == [r.text for r in first]


def test_captions_of_one_picture_share_its_prefix(engine: Engine) -> None:
    before = engine.generator.meter.snapshot()
    engine.ask(*(caption(50, n) for n in range(20)))
    after = engine.generator.meter.snapshot()
    prompt = after["prompt_tokens"] - before["prompt_tokens"]
    cached = after["cached_tokens"] - before["cached_tokens"]
    # 64 of the 69 tokens are the picture's; the first caption computes them, 19 find them.
    assert cached == 19 * 64 and cached / prompt > 0.8
    assert after["requests"] - before["requests"] == 20


def test_a_schema_is_obeyed_even_by_noise(engine: Engine) -> None:
    values = Sampling(max_tokens=300)
    requests = [Request("x", (picture(1), "elements"), values, seed, schema=SCHEMA) for seed in range(8)]
    good = [response for response in engine.ask(*requests) if response.error is None]
    assert good, "every answer was cut"
    for response in good:
        # Not strict: xgrammar lets control characters into strings of bounded length.
        said = json.loads(response.text, strict=False)
        assert set(said) == {"word", "pos"} and said["pos"] in ("noun", "verb") and len(said["word"]) <= 12

    cut = Request("x", (picture(1), "elements"), Sampling(max_tokens=4), 1, schema=SCHEMA)
    assert engine.ask(cut)[0].error == "answer cut at max_tokens"


def test_a_probability_is_that_of_the_models_own_forward_pass(engine: Engine, model: Path) -> None:
    """Of a word with two tokens, at a sampling of which nothing may count."""
    import torch

    from engine.terrarium.model import load, processor
    from engine.terrarium.tokens import load_tokenizer

    tokenizer = load_tokenizer(model)
    network, prepare, vocabulary = load(model, tokenizer).eval(), processor(tokenizer), tokenizer.get_vocab()
    words = ("boat", "tree", "green", "sparrow")
    sharp = Sampling(temperature=0.2, top_p=0.3, max_tokens=9)
    asked = [
        Request("q", (picture(number), "caption boat"), sharp, number, probability_of=word)
        for number in (1, 2, 3)
        for word in words
    ]
    expected = []
    for request in asked:
        (shown,), word = request.pictures, str(request.probability_of)
        text = "<image>\ncaption boat<answer>"
        inputs = prepare(images=shown.image, text=text, return_tensors="pt")
        with torch.no_grad():
            shares = network(**inputs).logits[0, -1].softmax(-1)
        expected.append(float(shares[vocabulary[word]] + shares[vocabulary["Ġ" + word]]))
    # Beside requests that draw tokens, which have no log-probabilities.
    together = engine.ask(*asked, *(caption(number, number) for number in range(4)))
    found = [response.probability for response in together]
    assert found[: len(asked)] == pytest.approx(expected, rel=1e-3)
    assert max(expected) > 1.2 * min(expected), "they tell words and pictures apart"
    assert found[len(asked) :] == [None] * 4 and all(r.error is None for r in together)
    with pytest.raises(RecipeError, match="none of its tokens is the word 'Indeed'"):
        engine.ask(Request("q", (picture(1), "x"), sharp, 1, probability_of="Indeed"))


def test_a_refused_request_fails_alone(engine: Engine) -> None:
    long = Request("x", (picture(1), "tree " * 3000), Sampling(max_tokens=4), 1)
    good, bad, empty = engine.ask(
        caption(1, 1), long, Request("x", (), Sampling(max_tokens=4), 1, schema={"type": "nonsense"})
    )
    assert good.error is None and bad.error == "prompt longer than max_model_len"
    assert empty.error is not None and empty.error.startswith("refused by the engine: ")


def test_an_abandoned_call_leaves_nothing_running(engine: Engine) -> None:
    async def abandon() -> None:
        work = engine.generator.generate([caption(n, n, max_tokens=200) for n in range(200)])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work, 0.3)

    engine.runner.run(abandon())
    assert engine.generator.meter.snapshot()["in_flight"] == 0
    # The abandoned pictures may be known to one half of the engine only: they are sent again.
    responses = engine.ask(*(caption(n, n) for n in range(200)))
    assert [response.error for response in responses] == [None] * 200


def test_wrong_settings_are_named(model: Path) -> None:
    config_only = model.parent / "no-model"
    config_only.mkdir()
    for values, message in (
        ({"engine": {"max_num_sequ": 1}}, r"engine\.max_num_sequ: .*'max_num_seqs'"),
        ({"engine": {"trust_remote_code": True}}, r"engine\.trust_remote_code: set `trust_remote_code`"),
        ({"engine": {"logprobs_mode": "raw_logits"}}, r"logprobs_mode: raw_logits gives no probabilities"),
        ({"engine": {"load_format": "pt"}}, r"engine\.load_format: pt .*safetensors"),
        ({"gpus": 1}, r"gpus: 1, but .*set gpus: 0"),
        ({"max_model_len": 10**6}, r"max_model_len"),
    ):
        with pytest.raises(RecipeError, match=r"^generators\.vlm: .*" + message):
            build_generator("vlm", settings_of(model, **values))
    with pytest.raises(RecipeError, match=r"model .*no-model"):
        build_generator("vlm", settings_of(config_only))


def test_refusals_group() -> None:
    assert refusal("aspect ratio must be smaller than 200, got 417.3") == refusal(
        "aspect ratio must be smaller than 200, got 9000.1"
    )
    assert len(refusal("x" * 1000)) < 140


def test_a_dead_engine_is_noticed_at_once_and_leaves_no_process(engine: Engine) -> None:
    """The last test with this engine."""
    processes = engine.processes
    assert processes

    async def die() -> float:
        work = asyncio.create_task(
            engine.generator.generate([caption(n, n, max_tokens=200) for n in range(100)])
        )
        await asyncio.sleep(0.5)
        begin = time.monotonic()
        for process in processes:
            process.kill()
        with pytest.raises(EngineDied, match="died"):
            await work
        return time.monotonic() - begin

    assert engine.runner.run(die()) < 5
    with pytest.raises(EngineDied):
        engine.ask(caption(1, 1))
    engine.runner.run(engine.generator.close())
    assert not any(process.is_alive() for process in processes)


def test_an_engine_does_not_outlive_the_process_that_started_it(model: Path, tmp_path: Path) -> None:
    script = tmp_path / "actor.py"
    script.write_text(
        "import multiprocessing, os, signal\n"
        "from engine.generation.vllm_engine import VllmGenerator\n"
        "from engine.recipe import Vllm\n"
        "if __name__ == '__main__':\n"
        f"    VllmGenerator(Vllm.model_validate({settings_of(model).model_dump(mode='json')!r}))\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    said = tmp_path / "said"
    with said.open("w") as out:
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        ended = subprocess.run([sys.executable, str(script)], stdout=out, stderr=out, env=environment)
    assert ended.returncode == -signal.SIGKILL, said.read_text()
    pids = [int(pid) for pid in said.read_text().splitlines()[-1].split()]
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "the engine's process is an orphan"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        # A zombie has ended; whoever inherited it has not yet taken note.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
