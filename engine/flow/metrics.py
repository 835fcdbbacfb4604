"""What a run tells Prometheus, by way of Ray: samples, failures, tokens, what waits, how busy engines are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ray.util.metrics import Counter, Gauge

from engine.flow.report import PartReport

#: Counters by name: what they count, and their tags beside `run`. Ray puts `ray_` before a name, and
#: `_total` behind a counter's. A rate of busy seconds over one of alive seconds is the share of
#: their time in which a pool's engines have work.
COUNTERS: Final = {
    "connote_samples": ("Samples that a stage computed, failed ones included.", "stage"),
    "connote_failed_samples": ("Samples that a stage computed, and that became error rows.", "stage"),
    "connote_requests": ("Requests that a stage made of its engine.", "stage"),
    "connote_output_tokens": ("Tokens that a stage's answers have.", "stage"),
    "connote_engine_busy_seconds": ("Time in which engines had work, summed over a pool's actors.", "pool"),
    "connote_engine_alive_seconds": ("Time since the start of engines' actors, summed over them.", "pool"),
}
WAITING: Final = "connote_waiting_samples"
IN_FLIGHT: Final = "connote_requests_in_flight"

#: A counter's name, the value of its tag, and by how much it grows.
Increment = tuple[str, str, float]


class RunMetrics:
    """Counts the reports of one session. Lives in the driver: its node exports them as long as it runs."""

    def __init__(self, run: str, samples: int) -> None:
        self._run, self._waiting = run, samples
        self._seen = SeenMeters()
        self._counters = {
            name: Counter(name, description=about, tag_keys=("run", tag))
            for name, (about, tag) in COUNTERS.items()
        }
        about = "Samples of the session that have not gone through all pools yet."
        self._left = Gauge(WAITING, description=about, tag_keys=("run",))
        about = "Requests that a pool's engines had in flight when they were last heard of."
        self._in_flight = Gauge(IN_FLIGHT, description=about, tag_keys=("run", "pool"))
        self._left.set(samples, {"run": run})

    def add(self, report: PartReport) -> None:
        """Count a part that has gone through all pools."""
        for name, value, amount in [*stage_increments(report), *self._seen.increments(report)]:
            if amount > 0:
                self._counters[name].inc(amount, {"run": self._run, COUNTERS[name][1]: value})
        self._waiting -= report.rows
        self._left.set(self._waiting, {"run": self._run})
        for pool, requests in self._seen.in_flight().items():
            self._in_flight.set(requests, {"run": self._run, "pool": pool})


def stage_increments(report: PartReport) -> Iterator[Increment]:
    """What the stages computed of a part; nothing of those whose table had been committed before."""
    for name, stage in report.stages.items():
        if stage.computed:
            yield "connote_samples", name, stage.computed
            yield "connote_failed_samples", name, sum(stage.failed.values())
            yield "connote_requests", name, stage.requests
            yield "connote_output_tokens", name, stage.output_tokens


class SeenMeters:
    """The latest meter of every actor. Reports overtake each other, and an actor's counters only grow."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str], dict[str, float]] = {}

    def increments(self, report: PartReport) -> Iterator[Increment]:
        """How much longer engines have been busy and alive than was known."""
        for pool, actors in report.meters.items():
            for actor, meter in actors.items():
                known = self._meters.get((pool, actor), {"busy_s": 0.0, "alive_s": 0.0})
                if meter["alive_s"] > known["alive_s"]:
                    self._meters[pool, actor] = meter
                    yield "connote_engine_busy_seconds", pool, meter["busy_s"] - known["busy_s"]
                    yield "connote_engine_alive_seconds", pool, meter["alive_s"] - known["alive_s"]

    def in_flight(self) -> dict[str, float]:
        """Requests in flight by pool."""
        found: dict[str, float] = {}
        for (pool, _), meter in self._meters.items():
            found[pool] = found.get(pool, 0) + meter.get("in_flight", 0)
        return found
