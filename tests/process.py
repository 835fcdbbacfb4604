"""The command as users give it, in a process of its own: watched, waited for, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

#: What the running test has started.
RUNS: list[Run] = []


class Run(subprocess.Popen[bytes]):
    """A command in a process of its own.

    Its output goes to a file: a pipe that nobody reads while a test waits would stop it when full.
    """

    def __init__(self, module: str, *arguments: str | Path) -> None:
        self.output = tempfile.TemporaryFile()  # noqa: SIM115
        RUNS.append(self)
        super().__init__(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # A shell that starts the tests in the background has its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def said(self) -> str:
        """What it has printed until now."""
        file = self.output.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def end(self, timeout: float = 600) -> str:
        """All that it printed, when it has left."""
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.said()}") from None
        return self.said()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 300, every: float = 0.02) -> None:
        """Wait until something is so of a run, which has not failed meanwhile."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it did not come about in {seconds} s:\n{self.said()}"
            assert not self.poll() or self.returncode < 0, f"the run failed:\n{self.said()}"
            time.sleep(every)

    def stop(self) -> None:
        """Kill it with all that it started: a test that failed leaves nothing to those behind it."""
        if self.poll() is None:
            for process in [*psutil.Process(self.pid).children(recursive=True), self]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.wait()
        self.output.close()
