"""A cluster that plays through what it is told: jobs that end as planned, outages, interruptions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from engine.submission.naming import RunJobs
from engine.submission.plan import Job, Plan
from engine.submission.service import Phase, Record, Request, Taken, Unreachable
from engine.submission.supervise import Supervisor, Voice

RUN = RunJobs("/data/run", "recipe")


@dataclass(frozen=True)
class End:
    """How an attempt ends, after it was asked for so many times."""

    phase: Phase
    exit_code: int | None = None
    reason: str = ""
    asked: int = 2
    log: Sequence[str] = ("one\n", "two\n")


DONE = End(Phase.succeeded, 0)
TOO_MANY = End(Phase.failed, 1, "failed     30% of the samples")
REFUSED = End(Phase.failed, 2)
BROKEN = End(Phase.failed, 3)
KILLED = End(Phase.failed, -9)
DIED = End(Phase.failed, None, "Job supervisor actor died")
STOPPED = End(Phase.stopped)
LOST = End(Phase.running)


class Cluster:
    """A JobService of which every attempt ends as the next of `ends` says.

    Every call is counted; `before` is given its number and may raise, for a call that does not
    arrive, and `after` may, for one whose answer is lost.
    """

    def __init__(self, *ends: End) -> None:
        self.ends, self.jobs, self.requests = deque(ends), dict[str, Record](), list[Request]()
        self.calls = 0
        self.before: Callable[[int], None] = lambda call: None
        self.after: Callable[[int], None] = lambda call: None
        self.stopped: list[str] = []
        self._plans: dict[str, End] = {}
        self._asked: dict[str, int] = {}

    def add(self, id: str, notes: dict[str, str], end: End = DONE) -> None:
        """A job that somebody else has submitted."""
        self.jobs[id] = Record(id, Phase.running, notes, started=float(len(self._plans)))
        self._plans[id], self._asked[id] = end, 0

    def submit(self, request: Request) -> None:
        with_answer = self._call()
        if request.id in self.jobs:
            raise Taken(f"{request.id} is there")
        self.requests.append(request)
        computes = request.notes["connote_kind"] == "attempt"
        self.add(request.id, dict(request.notes), self.ends.popleft() if computes else DONE)
        with_answer()

    def record(self, id: str) -> Record | None:
        self._call()
        if id not in self.jobs:
            return None
        self._asked[id] += 1
        end, record = self._plans[id], self.jobs[id]
        if self._asked[id] < end.asked or record.ended:
            return record
        if end is LOST:
            del self.jobs[id]
            return None
        self.jobs[id] = replace(record, phase=end.phase, exit_code=end.exit_code, reason=end.reason)
        return self.jobs[id]

    def records(self) -> list[Record]:
        self._call()
        return list(self.jobs.values())

    def log(self, id: str) -> str:
        self._call()
        return "".join(self._plans[id].log)

    def tail(self, id: str) -> Iterator[str]:
        yield from self._plans[id].log

    def stop(self, id: str) -> None:
        self._call()
        self.stopped.append(id)
        self._plans[id] = STOPPED

    def _call(self) -> Callable[[], None]:
        call, self.calls = self.calls, self.calls + 1
        self.before(call)
        return lambda: self.after(call)


class Watched:
    """A supervisor over such a cluster: what it said and showed, and how long it slept."""

    def __init__(
        self,
        cluster: Cluster,
        jobs: Sequence[str] = ("mine",),
        attempts: int = 3,
        pause_s: float = 10,
        patience_s: float = 600,
        run: RunJobs = RUN,
    ) -> None:
        self.said, self.shown, self.slept = list[str](), list[str](), list[float]()
        self.at_sleep: Callable[[int], None] = lambda sleep: None
        plan = Plan([Job(name, f"do {name}") for name in jobs], attempts, pause_s, patience_s)
        voice = Voice(self.said.append, self.shown.append)
        self._supervisor = Supervisor(cluster, run, plan, voice, self._sleep)

    def supervise(self) -> int:
        return self._supervisor.supervise()

    @property
    def text(self) -> str:
        return "\n".join(self.said)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at_sleep(len(self.slept) - 1)


def refused(*_: object) -> None:
    """What a cluster does whose head is being restarted."""
    raise Unreachable("connection refused")
