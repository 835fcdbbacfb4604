"""A generator for tests: answers come from a function of the request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.generation.meter import Meter
from engine.generation.protocol import Request, Response


class Answers:
    """Answers with `answer(request)`; an exception's text becomes the response's error."""

    def __init__(self, answer: Callable[[Request], str]) -> None:
        self.answer = answer
        self.meter = Meter()
        self.asked: list[Request] = []

    async def generate(self, requests: Sequence[Request]) -> list[Response]:
        self.asked += requests
        return [self._one(request) for request in requests]

    async def close(self) -> None:
        pass

    def _one(self, request: Request) -> Response:
        try:
            text = self.answer(request)
        except ValueError as error:
            return Response(error=str(error))
        return Response(text, prompt_tokens=3, output_tokens=len(text.split()))
