"""A script that fails on some questions of the stage `vqascore` until they are asked by other seeds."""

from __future__ import annotations

from engine.generation.protocol import Request, Response, derive_seed
from engine.generation.scripted import answer


def say(request: Request) -> str | Response:
    """Of every fifth picture of `tests.flow.seers` the question about its first caption fails at first.

    Where that is its only caption, the picture has no score at all.
    """
    if request.task != "vqascore":
        return answer(request)
    (picture,) = request.pictures
    first = derive_seed(0, picture.id, "vqascore-original", 0)
    if int(picture.id, 16) % 5 == 0 and request.seed == first:
        return Response(error="the engine is tired")
    return "Yes"
