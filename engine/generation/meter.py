"""What a generator did since it started: how long it was busy, with how many requests and tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """Counters of one generator, for the run's summary; they decide nothing.

    *Busy* is the time with at least one request in flight, however many there were.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self._in_flight = 0
        self._busy = 0.0
        self._since = 0.0

    @contextmanager
    def working(self, requests: int = 1) -> Iterator[None]:
        """Counts `requests` as in flight, and the time as busy, while the block runs."""
        if self._in_flight == 0:
            self._since = time.monotonic()
        self._in_flight += requests
        try:
            yield
        finally:
            self._in_flight -= requests
            if self._in_flight == 0:
                self._busy += time.monotonic() - self._since

    def count(
        self,
        *,
        requests: int = 1,
        errors: int = 0,
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
        output_tokens: int = 0,
    ) -> None:
        """Add requests that were answered. `cached_tokens` of the prompt were not computed again."""
        self.requests += requests
        self.errors += errors
        self.prompt_tokens += prompt_tokens
        self.cached_tokens += cached_tokens
        self.output_tokens += output_tokens

    def snapshot(self) -> dict[str, float]:
        """The counters by name; `busy_s` in seconds, up to now."""
        running = time.monotonic() - self._since if self._in_flight else 0.0
        return {
            "busy_s": self._busy + running,
            "in_flight": self._in_flight,
            "requests": self.requests,
            "errors": self.errors,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
        }
