import asyncio
import base64
import contextlib
import io
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from engine.errors import EngineDied, RecipeError
from engine.generation import build_generator, generator_digest
from engine.generation.backoff import delay, retry_after
from engine.generation.first_word import NOT_TOLD
from engine.generation.openai_server import OpenAIGenerator
from engine.generation.protocol import Picture, Request, Response
from engine.recipe import OpenAI, Sampling

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
Handler = Callable[[dict[str, Any], int], Awaitable[web.StreamResponse]]


def completion(text: str, reason: str = "stop", logprobs: Any = None) -> web.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    choice["logprobs"] = logprobs
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return web.json_response(body | {"choices": [choice], "usage": usage})


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"][-1]["text"])


class Server:
    """A server that does what its handler says, and writes down what it was asked."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.bodies: list[dict[str, Any]] = []
        self.busy = self.busiest = 0
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        tries = sum(prompt_of(seen) == prompt_of(body) for seen in self.bodies)
        self.bodies.append(body)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            return await self.handler(body, tries)
        finally:
            self.busy -= 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()


def ask(text: str, picture: Picture | None = None, schema: dict[str, Any] | None = None) -> Request:
    content = (picture, text) if picture else (text,)
    return Request("caption", content, Sampling(max_tokens=9), seed=5, system="Be brief.", schema=schema)


def exchange(
    handler: Handler, requests: list[Request], **settings: Any
) -> tuple[list[Response], Server, OpenAIGenerator]:
    async def run() -> tuple[list[Response], Server, OpenAIGenerator]:
        async with Server(handler).running() as server:
            values = {"backend": "openai", "model": "m", "base_url": server.url, **settings}
            generator = OpenAIGenerator(OpenAI.model_validate(values))
            try:
                return await generator.generate(requests), server, generator
            finally:
                await generator.close()

    return asyncio.run(run())


async def echo(body: dict[str, Any], tries: int) -> web.StreamResponse:
    return completion("said " + prompt_of(body))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.generation.backoff._FIRST_S", 0.02)


def test_a_request_as_the_server_sees_it() -> None:
    picture = Picture("p", Image.new("RGB", (8, 4), "red"))
    requests = [ask("one", picture, SCHEMA), ask("two", picture)]
    responses, server, generator = exchange(echo, requests)
    assert responses == [Response("said one", 7, 3), Response("said two", 7, 3)]
    body = next(body for body in server.bodies if prompt_of(body) == "one")
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["model"], body["seed"], body["max_tokens"]) == ("m", 5, 9)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    url = body["messages"][1]["content"][0]["image_url"]["url"]
    image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))))
    assert image.size == (8, 4)
    assert generator.meter.snapshot()["output_tokens"] == 6


def test_no_more_requests_in_flight_than_there_is_room_and_all_in_order() -> None:
    async def slow(body: dict[str, Any], tries: int) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return await echo(body, tries)

    requests = [ask(f"q{n}") for n in range(30)]
    responses, server, _ = exchange(slow, requests, requests_in_flight=4)
    assert [response.text for response in responses] == [f"said q{n}" for n in range(30)]
    assert server.busiest == 4
    assert [prompt_of(body) for body in server.bodies[:4]] == ["q0", "q1", "q2", "q3"]


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, "drop", "hang", "page", "json"])
def test_passing_trouble_is_waited_out(trouble: int | str) -> None:
    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        if tries >= 2:
            return await echo(body, tries)
        match trouble:
            case int():
                return web.json_response({"error": {"message": "busy"}}, status=trouble)
            case "drop":
                raise ConnectionResetError
            case "hang":
                await asyncio.sleep(5)
            case "page":
                return web.Response(text="<html>gateway</html>", content_type="text/html")
        return web.Response(text='{"choices": ', content_type="application/json")

    # A machine that stands still for a while lets a healthy answer come too late as well.
    patience = 0.3 if trouble == "hang" else 60
    responses, server, _ = exchange(handler, [ask("q")], timeout_s=patience)
    assert responses[0].text == "said q" and len(server.bodies) == 3


def test_retry_after_is_obeyed() -> None:
    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        if tries:
            return await echo(body, tries)
        return web.json_response({}, status=429, headers={"Retry-After": "0.6"})

    begin = time.monotonic()
    responses, _, _ = exchange(handler, [ask("q")])
    assert responses[0].error is None and 0.6 <= time.monotonic() - begin < 2


def test_a_bad_request_fails_alone() -> None:
    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        if prompt_of(body) == "bad":
            error = {"message": "prompt has 9001 tokens", "code": "context_length_exceeded"}
            return web.json_response({"error": error}, status=400)
        return await echo(body, tries)

    responses, server, generator = exchange(handler, [ask("a"), ask("bad"), ask("b")])
    assert [response.error for response in responses] == [
        None,
        "refused by the server: HTTP 400 context_length_exceeded",
        None,
    ]
    assert len(server.bodies) == 3 and generator.meter.snapshot()["errors"] == 1


def test_a_request_that_always_breaks_the_server_fails_alone() -> None:
    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        if prompt_of(body) == "bad":
            return web.json_response({}, status=500)
        return await echo(body, tries)

    responses, _, _ = exchange(handler, [ask("bad"), ask("a")], attempts=3)
    assert [response.error for response in responses] == ["the server failed on this request: HTTP 500", None]


def test_cut_answers_are_errors_only_where_a_schema_must_hold() -> None:
    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        return completion(json.dumps({"a": "b"})[:4], "length")

    responses, _, _ = exchange(handler, [ask("q", schema=SCHEMA), ask("r")])
    assert [response.error for response in responses] == ["answer cut at max_tokens", None]


def told(*tokens: tuple[str, float], drawn: tuple[str, float] | None = None) -> dict[str, Any]:
    """Log-probabilities of a first token, as the protocol has them."""
    listed = [{"token": token, "logprob": log, "bytes": None} for token, log in tokens]
    token, log = drawn or tokens[0]
    return {"content": [{"token": token, "logprob": log, "bytes": None, "top_logprobs": listed}]}


def doubt(text: str) -> Request:
    """A request for the probability of "Yes"; its own sampling must not count."""
    sharp = Sampling(temperature=0.1, top_p=0.5, max_tokens=50)
    return Request("vqascore", (text,), sharp, seed=5, probability_of="Yes")


def test_the_probability_of_a_first_word() -> None:
    lists = {
        "sure": told(("Yes", math.log(0.5)), (" yes", math.log(0.25)), ("No", math.log(0.2))),
        "drawn only": told(drawn=("Yes", math.log(0.125))),
        "rare": told(("No", math.log(0.99)), ("Maybe", math.log(0.004))),
        "open": told(("No", math.log(0.5)), ("Maybe", math.log(0.1))),
        "broken": {"content": [{"token": "Yes", "logprob": "much", "top_logprobs": None}]},
        "empty": {"content": []},
        "none": None,
    }

    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        said = completion("Yes", logprobs=lists[prompt_of(body)])
        return said if body.get("logprobs") else completion("not asked for")

    responses, server, generator = exchange(handler, [doubt(name) for name in lists])
    found = dict(zip(lists, responses, strict=True))
    assert found["sure"].probability == pytest.approx(0.75)
    assert found["drawn only"].probability == pytest.approx(0.125)
    # "Yes" is not in the list: what the list leaves is 0.006, and half of that is told.
    assert found["rare"].probability == pytest.approx(0.003)
    assert "end too early" in str(found["open"].error) and found["open"].probability is None
    for name in ("broken", "empty", "none"):
        assert found[name].probability is None and found[name].error == NOT_TOLD
    body = server.bodies[0]
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert (body["max_tokens"], body["temperature"], body["top_p"]) == (1, 1, 1)
    assert generator.meter.snapshot()["errors"] == 4


@pytest.mark.parametrize(("status", "setting"), [(401, "api_key_env"), (403, "api_key_env"), (404, "model")])
def test_a_wrong_key_or_model_refuses_the_recipe(status: int, setting: str) -> None:
    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    with pytest.raises(RecipeError, match=rf"{setting}: http.*model m .*OPENAI_API_KEY"):
        exchange(handler, [ask(f"q{n}") for n in range(100)], requests_in_flight=2)


def test_a_gateway_that_forbids_one_request_forbids_no_other() -> None:
    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        forbidden = prompt_of(body) == "q5"
        return (
            web.json_response({"error": {"code": "waf"}}, status=403)
            if forbidden
            else await echo(body, tries)
        )

    responses, _, _ = exchange(handler, [ask(f"q{n}") for n in range(9)], requests_in_flight=1)
    assert [response.error for response in responses if response.error] == [
        "refused by the server: HTTP 403 waf"
    ]


def test_a_server_that_is_not_there_is_a_dead_engine() -> None:
    generator = OpenAIGenerator(
        OpenAI(backend="openai", model="m", base_url="http://127.0.0.1:9/v1", attempts=3)
    )
    with pytest.raises(EngineDied, match=r"base_url: http://127.0.0.1:9/v1 failed 3 times"):
        asyncio.run(generator.generate([ask("q"), ask("r")]))
    assert generator.meter.snapshot()["in_flight"] == 0


def test_an_abandoned_call_leaves_nothing_running() -> None:
    async def handler(body: dict[str, Any], tries: int) -> web.StreamResponse:
        await asyncio.sleep(30)
        return completion("late")

    async def run() -> None:
        async with Server(handler).running() as server:
            generator = OpenAIGenerator(OpenAI(backend="openai", model="m", base_url=server.url))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(generator.generate([ask("q"), ask("r")]), 0.3)
            assert generator.meter.snapshot()["in_flight"] == 0
            assert not [task for task in asyncio.all_tasks() if "_answer" in repr(task.get_coro())]
            await generator.close()

    asyncio.run(run())


def test_settings_and_digest() -> None:
    with pytest.raises(RecipeError, match=r"generators\.g: base_url: localhost:8000 is no address"):
        build_generator("g", OpenAI(backend="openai", model="m", base_url="localhost:8000"))
    here = OpenAI(backend="openai", model="m", base_url="http://a/v1")
    there = OpenAI(backend="openai", model="m", base_url="http://b/v1", attempts=1, requests_in_flight=1)
    assert generator_digest(here) == generator_digest(there)
    assert generator_digest(here) != generator_digest(here.model_copy(update={"model": "n"}))


def test_delays_grow_and_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.generation.backoff._FIRST_S", 0.5)
    assert all(0.25 <= delay(0) <= 0.5 and 2 <= delay(3) <= 4 and delay(99) <= 60 for _ in range(100))
    assert len({delay(3) for _ in range(10)}) > 1
    assert 7 <= delay(0, {"retry-after": "7"}) < 8
    assert delay(0, {"retry-after": "86400"}) < 61
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
