"""A script that notes which node is asked what."""

from __future__ import annotations

import os
from pathlib import Path

import ray

from engine.generation.protocol import Request
from engine.generation.scripted import answer as scripted

_NODE = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "driver"


def answer(request: Request) -> str:
    """As the default script; a line of node, task and seed is left in $NOTES."""
    if notes := os.environ.get("NOTES"):
        with open(notes, "a") as file:
            file.write(f"{_NODE} {request.task} {request.seed}\n")
    return scripted(request)


def read(notes: Path) -> list[tuple[str, str]]:
    """Who was asked what: pairs of a node and a request, in the order of time."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [(node, request) for node, _, request in (line.partition(" ") for line in lines)]
