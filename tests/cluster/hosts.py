"""A scripted generator that says on which machine it answered."""

from __future__ import annotations

import os

from engine.generation import scripted
from engine.generation.protocol import Request


def answer(request: Request) -> str:
    """What the default script says; of an image also the machine's name, last."""
    said = scripted.answer(request)
    return f"{said} {os.uname().nodename}" if request.task == "describe" else said
