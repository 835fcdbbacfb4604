"""A script that leaves one level out, and what pictures may be given for captions."""

from __future__ import annotations

from engine.generation.protocol import Request
from engine.generation.scripted import answer

#: Of each picture; the second is broken.
CAPTIONS: list[list[str]] = [
    ["a red boat", "two dogs run along the beach", "cat"],
    ["two dogs", "two dogs run"],
    [],
    ["a boat"],
    ["a red boat", "a red boat"],
    ["cat", "along the beach a cat", "a boat along the beach", "run run run", "dogs"],
    ["two", "a beach", "red red cat"],
]


def speak(request: Request) -> str:
    """Captions of the second level are empty, and so fail their checks."""
    if request.task == "caption" and request.values.get("level") == "broader":
        return ""
    return answer(request)
