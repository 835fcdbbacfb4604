"""Scripts that misbehave: what tests give a scripted generator to see the engine recover.

Each is named in a recipe as `engine.generation.scripted_faults:NAME`. What goes wrong, and where, is read
from environment variables, which reach the processes of a cluster where Python objects would not:

    CONNOTE_FAULT_PICTURES   picture ids (or descriptions' words) that are hit, comma separated
    CONNOTE_FAULT_TASK       the only task that is hit; any, if it is not set
    CONNOTE_FAULT_AFTER      how many requests a process answers before `die` and `crash` act
    CONNOTE_FAULT_MARKER     a file; `die` and `crash` act once, by creating it
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import EngineDied
from engine.generation.protocol import Request, Response
from engine.generation.scripted import answer

_asked = 0


def refuse(request: Request) -> str:
    """Answers like a model that declines."""
    return "I'm sorry, but I can't help with that." if _is_hit(request) else answer(request)


def babble(request: Request) -> str:
    """Answers with JSON that ends in the middle."""
    return '{"elements": [{"word": "lan' if _is_hit(request) else answer(request)


def silence(request: Request) -> str:
    """Answers with nothing."""
    return "" if _is_hit(request) else answer(request)


def reject(request: Request) -> str | Response:
    """Answers with an error, as an engine does to a prompt that is too long."""
    return Response(error="prompt longer than max_model_len") if _is_hit(request) else answer(request)


def die(request: Request) -> str:
    """Raises `EngineDied` once, as when vLLM's process is gone."""
    if _is_due(request):
        raise EngineDied("the scripted engine died, as it was told to")
    return answer(request)


def crash(request: Request) -> str:
    """Ends its process once, without a word to anyone."""
    if _is_due(request):
        os._exit(1)
    return answer(request)


def _is_hit(request: Request) -> bool:
    task = os.environ.get("CONNOTE_FAULT_TASK")
    if task and task != request.task:
        return False
    names = [name for name in os.environ.get("CONNOTE_FAULT_PICTURES", "").split(",") if name]
    if request.pictures:
        return any(picture.id in names for picture in request.pictures)
    return any(name in request.values.get("description", "") for name in names)


def _is_due(request: Request) -> bool:
    global _asked
    task = os.environ.get("CONNOTE_FAULT_TASK")
    if task and task != request.task:
        return False
    _asked += 1
    marker = os.environ.get("CONNOTE_FAULT_MARKER")
    if not marker or _asked <= int(os.environ.get("CONNOTE_FAULT_AFTER", "0")):
        return False
    try:
        # Exclusive: of several processes one acts.
        with Path(marker).open("x"):
            return True
    except FileExistsError:
        return False
