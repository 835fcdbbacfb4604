"""Reading the log of a job that runs: every piece once, however often the connection breaks."""

from __future__ import annotations

from collections.abc import Callable

from engine.submission.service import JobService


class LogReader:
    """Shows one job's log."""

    def __init__(self, service: JobService, id: str, show: Callable[[str], None]) -> None:
        self.id = id
        self._service, self._show = service, show
        self._seen = 0  # characters

    def read(self, gone: Callable[[], bool]) -> None:
        """Show what is new until the log ends or its connection breaks.

        Args:
            gone: whether the job has ended; asked where there is nothing to show, since a connection
                to a node that was unplugged never ends.
        """
        at, silent = 0, False
        for text in self._service.tail(self.id):
            if text:
                if new := text[max(0, self._seen - at) :]:
                    self._show(new)
                at += len(text)
                self._seen, silent = max(self._seen, at), False
            elif gone():
                if silent:
                    return
                silent = True  # its last lines may still be on their way
