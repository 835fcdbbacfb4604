"""End the engine's processes when the process that started them is killed.

vLLM's engine process does not notice that its parent is gone: after a SIGKILL it would hold its
memory, on a GPU all of it, until someone ends it by hand.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import threading
from collections.abc import Iterator

#: Collects process ids from its input. The input ends when this process does, however that
#: happens; then they are killed, unless the last line was `done`.
_SCRIPT = """
while read -r line; do
    [ "$line" = done ] && exit 0
    victims="$victims $line"
done
[ -n "$victims" ] && kill -9 $victims 2>/dev/null
"""


class Watchdog:
    """A shell of about a megabyte that outlives this process and ends what it left behind."""

    def __init__(self) -> None:
        self._known = {child.pid for child in multiprocessing.active_children()}
        # A session of its own: an interrupt of the run must not end the watchdog first.
        self._shell = subprocess.Popen(["sh", "-c", _SCRIPT], stdin=subprocess.PIPE, start_new_session=True)

    @contextlib.contextmanager
    def during_start(self) -> Iterator[None]:
        """Watch the processes that are started inside the block, from their first moment on."""
        started = threading.Event()

        def look() -> None:
            while not started.wait(0.1):
                self._watch_new()

        thread = threading.Thread(target=look, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            started.set()
            thread.join()
            self._watch_new()

    def close(self) -> None:
        """Stand down: the processes have ended, and their ids may soon belong to others."""
        self._tell("done")
        if self._shell.stdin is not None:
            with contextlib.suppress(OSError):
                self._shell.stdin.close()
        self._shell.wait()

    def _watch_new(self) -> None:
        for child in multiprocessing.active_children():
            if child.pid not in self._known:
                self._known.add(child.pid)
                self._tell(str(child.pid))

    def _tell(self, line: str) -> None:
        if self._shell.stdin is not None and not self._shell.stdin.closed:
            with contextlib.suppress(OSError):  # somebody ended the shell: nothing more can be done
                self._shell.stdin.write(line.encode() + b"\n")
                self._shell.stdin.flush()
