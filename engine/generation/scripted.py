"""Generation by a script: answers computed from the request, for tests and benchmarks of the engine."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from zlib import crc32

from engine.errors import RecipeError
from engine.generation.meter import Meter
from engine.generation.protocol import Picture, Request, Response
from engine.recipe import Scripted
from engine.schema import LEVELS, PARTS_OF_SPEECH

#: Computes the answer to a request; a `Response` where tokens, a probability or an error are scripted too.
Script = Callable[[Request], str | Response]

_ELEMENTS = 4
_WORDS = 3
#: What the answers are about: nouns, so that they read like the sentences of a model.
_THINGS = (
    "harbour lantern orchard violin bridge falcon meadow kettle ladder marble anchor basket candle dragon "
    "engine feather garden hammer island jacket kitten lemon mirror needle oyster parrot quarry ribbon "
    "saddle temple umbrella valley wagon yacht zebra acorn balcony canyon desert eagle"
).split()
#: Made-up syllables: the words made of them are alphabetic, and no dictionary's.
_SYLLABLES = "ba de fi go lu ma ne pi ro su ta ve wi xo zu ka".split()
_STYLES = {
    "synonym": "A {} rests in plain daylight",
    "broader": "Some kind of {} fills the frame",
    "context": "Here a {} gathers its quiet hour",
    "concept": "What {} means to passing strangers",
    "metaphor": "All of it leans toward {}",
}


class ScriptedGenerator:
    """Answers each request by the script that the recipe names, at once or as a slow device would.

    With `delay_s` it behaves like a device with `requests_in_flight` places, each of which works
    `delay_s` seconds on a request: the calls of all parts share the places, first come first served.
    """

    def __init__(self, settings: Scripted) -> None:
        self.meter = Meter()
        self._script = load_script(settings.script)
        self._delay = settings.delay_s
        self._free_at = deque([0.0] * settings.requests_in_flight)

    async def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request, in order; see `Generator.generate`."""
        with self.meter.working(len(requests)):
            responses = [_respond(request, self._script(request)) for request in requests]
            await asyncio.sleep(self._wait(len(requests)))
        self.meter.count(
            requests=len(responses),
            errors=sum(response.error is not None for response in responses),
            prompt_tokens=sum(response.prompt_tokens for response in responses),
            output_tokens=sum(response.output_tokens for response in responses),
        )
        return responses

    async def close(self) -> None:
        """There is nothing to free."""

    def _wait(self, requests: int) -> float:
        """Seconds until the device is done with these requests, of which it now takes note."""
        if not self._delay:
            return 0
        now = done = time.monotonic()
        for _ in range(requests):
            # All places work equally long, so the one that was taken first is free first.
            done = max(now, self._free_at.popleft()) + self._delay
            self._free_at.append(done)
        return done - now


def load_script(name: str) -> Script:
    """The function that a recipe names as `module:function`.

    Raises:
        RecipeError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        script: Script = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"script: {name} cannot be loaded ({error}); write module:function") from error
    if not callable(script):
        raise RecipeError(f"script: {name} is no function; write module:function")
    return script


def answer(request: Request) -> str:
    """The default script: what an obedient model might say to the package's four prompts."""
    values = request.values
    match request.task:
        case "describe":
            return _describe(request)
        case "elements":
            return _elements(values.get("description", ""), int(values.get("count", _ELEMENTS)))
        case "associate":
            return _associate(values.get("element", ""), int(values.get("words", _WORDS)))
        case "caption":
            style = _STYLES.get(values.get("level", ""), "{} near")
            # The number of the element in the picture's list is not known here; its name tells
            # captions of two elements apart that were given the same association.
            return f"{style.format(values.get('association', ''))} by {values.get('element', '')}"
    return f"{request.task} {request.seed}"


def _describe(request: Request) -> str:
    name = request.pictures[0].id if request.pictures else str(request.seed)
    number, things = crc32(name.encode()), list(_THINGS)
    chosen = []
    for _ in range(_ELEMENTS):
        number, index = divmod(number, len(things))
        chosen.append(things.pop(index))
    first, second, third, fourth = chosen
    return (
        f"In the middle there is a {first}, and a {second} stands to the left of it. "
        f"Behind them one sees a {third}. A {fourth} lies in the foreground, in soft light."
    )


def _elements(description: str, count: int) -> str:
    words = dict.fromkeys(word.strip(".,;") for word in description.split())
    known = [word for word in words if word in _KNOWN] or [word for word in words if len(word) > 3]
    items = [{"word": word, "pos": PARTS_OF_SPEECH[0]} for word in known[: min(count, _ELEMENTS)]]
    return json.dumps({"elements": items})


def _associate(element: str, count: int) -> str:
    return json.dumps({level: [_word(f"{element} {level} {n}") for n in range(count)] for level in LEVELS})


def _word(name: str) -> str:
    """A made-up word of five syllables; two names give the same one with probability 1e-6."""
    number = crc32(name.encode())
    return "".join(_SYLLABLES[(number >> shift) & 15] for shift in (0, 4, 8, 12, 16))


def _respond(request: Request, said: str | Response) -> Response:
    if isinstance(said, Response):
        return said
    prompt = sum(piece.count(" ") + 1 for piece in request.content if isinstance(piece, str))
    return Response(said, prompt, said.count(" ") + 1, probability=_probability(request))


def _probability(request: Request) -> float | None:
    """Evenly spread over 0 to 1 by what is shown, whatever the seed."""
    if request.probability_of is None:
        return None
    shown = [piece.id if isinstance(piece, Picture) else piece for piece in request.content]
    return crc32("\x00".join([request.probability_of, *shown]).encode()) / 2**32


_KNOWN = frozenset(_THINGS)
