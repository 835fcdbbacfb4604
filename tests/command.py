"""The command as users give it, in this process, where Ray and all imports are there."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from jobs.command import app, guarded


def connote(*arguments: str | Path) -> tuple[int, str]:
    """The exit status and the output of `connote` with these arguments, in this process."""
    said, asked = io.StringIO(), list[int]()
    with redirect_stdout(said), redirect_stderr(said):
        # A command that leaves by itself returns its status to typer, which hands it on.
        status = guarded(lambda: asked.append(app(list(map(str, arguments)), standalone_mode=False) or 0))
    return status or sum(asked), said.getvalue()


def finish(command: str, *arguments: str | Path, status: int = 0) -> str:
    """What `connote command` with these arguments printed, in this process; it left with `status`."""
    found, text = connote(command, *arguments)
    assert found == status, text
    return text
