"""The command as users give it: a process of its own, or in this one, where Ray and all imports are there."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from jobs.command import app, guarded


def start(module: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """`python -m module` with these arguments, its output in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A shell that starts the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


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
