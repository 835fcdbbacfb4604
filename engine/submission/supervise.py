"""Supervision: submit a run's jobs one after the other, each again until it is complete.

Knows neither Ray nor a clock of its own, so that every order of events can be played through.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.errors import StorageError
from engine.statuses import INTERRUPTED, OK, REFUSED
from engine.submission.log_reader import LogReader
from engine.submission.naming import Kind, RunJobs, host_of, job_of
from engine.submission.plan import Job, Plan
from engine.submission.service import JobService, Record, Request, Taken, Unreachable
from engine.submission.verdict import judge

Answer = TypeVar("Answer")

#: Seconds between two questions where no log tells that something happens.
_POLL_S = 2.0
_LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True)
class Voice:
    """Where words go: one's own lines, and the text of a job's log (None: logs are not shown)."""

    say: Callable[[str], None]
    show: Callable[[str], None] | None = None


class Supervisor:
    """Sees one run's jobs through.

    Several on one run do no harm: an attempt has a name, the cluster starts a name once, and who
    comes second follows it.
    """

    def __init__(
        self,
        service: JobService,
        run: RunJobs,
        plan: Plan,
        voice: Voice,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service, self._run, self._plan, self._voice = service, run, plan, voice
        self._sleep = sleep
        self._current: str | None = None  # the attempt that may be on the cluster
        self._numbers: dict[str, int] = {}  # of each job's last attempt
        self._stops: frozenset[str] = frozenset()  # the marks of stops that came before us

    def supervise(self) -> int:
        """Submit, follow and submit again until the run is complete or nothing more can be done.

        Returns:
            The exit status: 0 complete, 1 complete with too many failed samples, 2 refused,
            3 attempts used up, 130 stopped.

        Raises:
            RecipeError: the cluster refuses what is sent.
            StorageError: the cluster did not answer for `patience_s`.
            KeyboardInterrupt: passed on, after what runs on has been said.
        """
        try:
            known = self._patiently(self._service.records)
            self._stops = self._marks(known)
            running = [each for each in self._run.among(known, Kind.attempt) if not each.ended]
            for job, found in self._left(running[-1] if running else None):
                if (status := self._complete(job, found)) != OK:
                    return status
            return OK
        except (KeyboardInterrupt, StorageError):
            self._say_what_runs_on()
            raise

    def _left(self, running: Record | None) -> list[tuple[Job, Record | None]]:
        """The jobs to be done: from the one that is running on, if one is."""
        names = [job.name for job in self._plan.jobs]
        if running is None or job_of(running) not in names:
            return [(job, None) for job in self._plan.jobs]
        first, *others = self._plan.jobs[names.index(job_of(running)) :]
        return [(first, running), *((job, None) for job in others)]

    def _complete(self, job: Job, running: Record | None) -> int:
        accepted = False
        for tried in range(1, self._plan.attempts + 1):
            if tried > 1 and self._stopped_in_pause(tried):
                self._voice.say("connote: stopped while it waited; submit the recipe again to go on")
                return INTERRUPTED
            self._current = running.id if running and tried == 1 else self._submit(job)
            if running and tried == 1:
                self._voice.say(
                    f"connote: {running.id} is running (submitted on {host_of(running)}); following it"
                )
            verdict = judge(self._watch(self._current), accepted)
            self._voice.say(f"connote: {self._current} {verdict.words}")
            self._current = None
            if not verdict.again:
                return verdict.status
            accepted = accepted or verdict.status != REFUSED
        self._voice.say(
            f"connote: {job.name} is not complete after {self._plan.attempts} attempts; what is finished is "
            "kept: mend what its log names and submit the recipe again"
        )
        return verdict.status

    def _submit(self, job: Job) -> str:
        """Start the next attempt and return its name; whoever started it first, it is followed."""
        known = self._patiently(self._service.records)
        # A restarted head knows none of the old names: ours go on counting, so that logs tell them apart.
        number = max(self._run.next_number(known, Kind.attempt, job.name), self._numbers.get(job.name, 0) + 1)
        self._numbers[job.name] = number
        id = self._run.name(job.name, number)
        request = Request(id, job.command, self._run.notes(Kind.attempt, job.name, number))
        self._current = id
        try:
            self._patiently(lambda: self._service.submit(request))
            self._voice.say(f"connote: submitted {id}: {job.command}")
        except Taken:
            # Another supervisor, or our own request whose answer was lost.
            self._voice.say(f"connote: {id} is there already; following it")
        return id

    def _watch(self, id: str) -> Record | None:
        """Follow a job to its end; None if it is lost."""
        log = LogReader(self._service, id, self._voice.show) if self._voice.show else None
        while True:
            if log:
                log.read(lambda: self._state(id)[0])
            ended, record = self._state(id)
            if ended:
                return record
            self._sleep(_POLL_S)

    def _state(self, id: str) -> tuple[bool, Record | None]:
        """Whether a job has ended, and how; None if the cluster knows it no more."""
        record = self._patiently(lambda: self._service.record(id))
        return record is None or record.ended, record

    def _stopped_in_pause(self, tried: int) -> bool:
        """Wait before another attempt; whether somebody asked meanwhile to leave it."""
        seconds = min(self._plan.pause_s * 2 ** (tried - 2), _LONGEST_PAUSE_S)
        self._voice.say(f"connote: attempt {tried} of {self._plan.attempts} in {seconds:g} s")
        self._sleep(seconds)
        marks = self._marks(self._patiently(self._service.records))
        asked = bool(marks - self._stops)
        self._stops &= marks  # a restarted head gives an old mark's name to a new one
        return asked

    def _marks(self, records: Sequence[Record]) -> frozenset[str]:
        return frozenset(record.id for record in self._run.among(records, Kind.stop))

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask a cluster that may not answer for a while."""
        waited, pause = 0.0, _POLL_S
        while True:
            try:
                answer = ask()
            except Unreachable as error:
                if waited >= self._plan.patience_s:
                    raise StorageError(
                        f"{error}, for {waited:,.0f} s now; what is finished is kept: submit the recipe "
                        "again when it does"
                    ) from error
                if not waited:
                    self._voice.say(f"connote: {error}; asking for up to {self._plan.patience_s:,.0f} s")
                self._sleep(pause)
                waited, pause = waited + pause, min(2 * pause, 30.0)
                continue
            if waited:
                self._voice.say("connote: the cluster answers again")
            return answer

    def _say_what_runs_on(self) -> None:
        if self._current is None:
            self._voice.say("\nconnote: nothing of the run was running; submit the recipe again to go on")
            return
        self._voice.say(
            f"\nconnote: {self._current} runs on in the cluster, but is not submitted again if it "
            f"fails; submit the recipe again to follow it, or end it: connote stop {self._run.uri}"
        )
