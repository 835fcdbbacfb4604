"""What a run says while it runs: done, rate, failures, time left."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from engine.flow.report import PartReport

#: Seconds between two lines where the output is no terminal (a log file, a Ray job).
LINE_EVERY_S = 10.0


class Progress:
    """Counts samples of one step and prints one line that is rewritten on a terminal.

    The rate is that of this session, from the first finished part on: neither what was already
    committed nor the loading of models counts for or against it.
    """

    def __init__(self, what: str, total: int, unit: str = "samples", stream: TextIO | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.done = 0
        self.failed = 0
        self.started = time.monotonic()
        self.printed = self.started
        self.first: tuple[float, int] | None = None  # when the first were done, and how many

    def add(self, count: int, failed: int = 0) -> None:
        """Count what is done, and say so now and then."""
        self.done += count
        self.failed += failed
        now = time.monotonic()
        if self.first is None:
            self.first = (now, self.done)
        if now - self.printed >= (0.1 if self.terminal else LINE_EVERY_S) or self.done == self.total:
            self.printed = now
            self._print()

    def add_part(self, report: PartReport) -> None:
        """Count a part; its failures are those of its last stage."""
        last = list(report.stages.values())[-1:]
        self.add(report.rows, sum(sum(stage.failed.values()) for stage in last))

    def line(self) -> str:
        """The line as it would be printed now."""
        text = f"{self.what:<9} {self.done:,}/{self.total:,} {self.unit}"
        if rate := self.rate():
            text += f"  {rate:,.1f}/s"
        if self.failed:
            text += f"  {self.failed:,} failed"
        if self.done < self.total and rate > 0:
            text += f"  {clock((self.total - self.done) / rate)} left"
        return text

    def rate(self) -> float:
        """What is done in a second; 0 where nothing can be said yet."""
        start, before = self.first or (self.started, 0)
        if self.done == self.total and before == self.total:
            start, before = self.started, 0  # all of it came at once
        elapsed = time.monotonic() - start
        return (self.done - before) / elapsed if elapsed > 0 else 0.0

    def close(self) -> None:
        """End the line."""
        if self.terminal:
            self.stream.write("\n")
            self.stream.flush()

    def _print(self) -> None:
        self.stream.write(f"\r\x1b[2K{self.line()}" if self.terminal else f"{self.line()}\n")
        self.stream.flush()


def clock(seconds: float) -> str:
    """A duration for people: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
