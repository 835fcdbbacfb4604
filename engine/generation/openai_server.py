"""Generation by a server that speaks the OpenAI chat protocol."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

from engine.errors import EngineDied, RecipeError
from engine.generation.backoff import delay, is_temporary
from engine.generation.data_urls import DataUrls
from engine.generation.first_word import NOT_TOLD, ONE_TOKEN, from_list
from engine.generation.meter import Meter
from engine.generation.protocol import Picture, Request, Response
from engine.generation.window import Window
from engine.recipe import OpenAI

#: Of each first token, the most that the protocol allows.
_TOP_LOGPROBS = 20

#: Statuses that say something about the recipe, not about one request.
_RECIPE = {401: "api_key_env", 403: "api_key_env", 404: "model"}


class OpenAIGenerator:
    """Answers requests through a server's chat completions. All calls must come from one event loop.

    Servers are slow, busy and restarted: a request is sent up to `attempts` times.

    Raises:
        RecipeError: `base_url` is no HTTP address.
    """

    def __init__(self, settings: OpenAI) -> None:
        from openai import AsyncOpenAI

        if not settings.base_url.startswith(("http://", "https://")):
            raise RecipeError(f"base_url: {settings.base_url} is no address; write http://HOST:PORT/v1")
        self.meter = Meter()
        self._settings = settings
        self._window = Window(settings.requests_in_flight)
        self._pictures = DataUrls()
        self._answered = 0
        self._client = AsyncOpenAI(
            base_url=settings.base_url,
            # Servers in one's own network often have no key, but the client wants one.
            api_key=os.environ.get(settings.api_key_env) or "none",
            timeout=settings.timeout_s,
            max_retries=0,
        )

    async def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request, in order; see `Generator.generate`.

        Raises:
            RecipeError: the server refuses the key or does not know the model.
            EngineDied: the server failed a request `attempts` times and answered no other meanwhile.
        """
        with self.meter.working(len(requests)):
            responses = await self._window.run(requests, self._answer)
        self.meter.count(
            requests=len(responses),
            errors=sum(response.error is not None for response in responses),
            prompt_tokens=sum(response.prompt_tokens for response in responses),
            output_tokens=sum(response.output_tokens for response in responses),
        )
        return responses

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.close()

    async def _answer(self, request: Request) -> Response:
        import openai

        arguments = self._arguments(request)
        answered_before, failure = self._answered, ""
        for attempt in range(self._settings.attempts):
            headers = None
            try:
                return self._read(request, await self._client.chat.completions.create(**arguments))
            except openai.APIStatusError as error:
                if not is_temporary(error.status_code):
                    return self._refuse(error)
                failure, headers = f"HTTP {error.status_code}", error.response.headers
            except openai.APITimeoutError:
                failure = f"no answer within {self._settings.timeout_s:g} s"
            except (openai.APIError, ValueError) as error:
                failure = str(error)  # no connection, or an answer that is not the protocol's
            if attempt + 1 < self._settings.attempts:
                await asyncio.sleep(delay(attempt, headers))
        if self._answered > answered_before:
            # Others were served meanwhile: it is this request that the server cannot take.
            return Response(error=f"the server failed on this request: {failure}")
        raise EngineDied(
            f"base_url: {self._settings.base_url} failed {self._settings.attempts} times in a row "
            f"({failure}); check that the server runs, or raise `attempts` or `timeout_s`"
        )

    def _arguments(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling if request.probability_of is None else ONE_TOKEN
        arguments: dict[str, Any] = {
            "model": self._settings.model,
            "messages": self._messages(request),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request.seed,
        }
        if request.schema is not None:
            schema = {"name": request.task, "schema": dict(request.schema), "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.probability_of is not None:
            arguments |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
        return arguments

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        for piece in request.content:
            if isinstance(piece, Picture):
                content.append({"type": "image_url", "image_url": {"url": self._pictures.of(piece)}})
            else:
                content.append({"type": "text", "text": piece})
        system = [{"role": "system", "content": request.system}] if request.system else []
        return [*system, {"role": "user", "content": content}]

    def _read(self, request: Request, completion: Any) -> Response:
        """The response in a completion.

        Raises:
            ValueError: it holds no answer, as a broken proxy's page does.
        """
        try:
            choice, usage = completion.choices[0], completion.usage
            text, reason = choice.message.content or "", choice.finish_reason
        except (AttributeError, IndexError, TypeError) as error:
            raise ValueError("its answer is no chat completion") from error
        self._answered += 1
        problem: str | None = None
        probability: float | None = None
        if request.schema is not None and reason == "length":
            problem = "answer cut at max_tokens"
        elif reason == "content_filter":
            problem = "refused by the server: content filter"
        elif request.probability_of is not None:
            probability, problem = _probability(choice, request.probability_of)
        prompt, output = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return Response(text, prompt, output, problem, probability)

    def _refuse(self, error: Any) -> Response:
        """A response for one bad request; raises when the recipe is to blame."""
        settings, status = self._settings, error.status_code
        # A server that knew key and model before refuses this request alone, as a gateway may.
        if status not in _RECIPE or (self._answered and status != 401):
            return Response(error=f"refused by the server: HTTP {status} {_reason(error)}".rstrip())
        raise RecipeError(
            f"{_RECIPE[status]}: {settings.base_url} answered HTTP {status} for model {settings.model} "
            f"with the key in ${settings.api_key_env}; check base_url, model and api_key_env"
        ) from error


def _probability(choice: Any, word: str) -> tuple[float | None, str | None]:
    """The probability that the answer begins with the word, and why it is not known."""
    try:
        first = choice.logprobs.content[0]
        tokens = [(each.token, float(each.logprob)) for each in first.top_logprobs or ()]
        if first.token not in [token for token, _ in tokens]:
            tokens.append((first.token, float(first.logprob)))
    except (AttributeError, IndexError, TypeError, ValueError):
        return None, NOT_TOLD  # a server that does not know the setting passes over it
    return from_list(word, tokens)


def _reason(error: Any) -> str:
    """What the server says of a refused request: its code where it gives one, for grouping."""
    body = error.body if isinstance(error.body, dict) else {}
    code = body.get("code") or body.get("type") or ""
    return code if isinstance(code, str) else json.dumps(code)
