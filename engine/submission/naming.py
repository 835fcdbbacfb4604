"""How the jobs of a run are called on a cluster, and the notes that they are found by.

Names derive from the run directory: of two who submit the same attempt, the cluster takes one.
"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from engine.storage import digest_of
from engine.submission.service import Record

_RUN, _JOB, _ATTEMPT, _KIND = "connote_run", "connote_job", "connote_attempt", "connote_kind"
_HOST, _RECIPE = "connote_host", "connote_recipe"


class Kind(StrEnum):
    """What a job on the cluster is to the run."""

    attempt = "attempt"  # it computes
    supervisor = "supervisor"  # it submits attempts
    stop = "stop"  # it does nothing: that it is there tells who waits to submit an attempt to leave


@dataclass(frozen=True)
class RunJobs:
    """The jobs of one run on a cluster.

    Attributes:
        uri: the run directory.
        recipe: a digest of the recipe that is submitted; "" to look at jobs only.
    """

    uri: str
    recipe: str = ""

    @classmethod
    def of(cls, record: Record) -> RunJobs:
        """The run that a job belongs to."""
        return cls(record.notes.get(_RUN, ""), record.notes.get(_RECIPE, ""))

    def name(self, job: str, number: int) -> str:
        """What a job is called on the cluster."""
        base = re.sub(r"[^A-Za-z0-9]+", "-", self.uri.rstrip("/").rsplit("/", 1)[-1])[:40].strip("-")
        return f"connote-{base or 'run'}-{digest_of(self.uri)[:8]}-{job}-{number}"

    def notes(self, kind: Kind, job: str, number: int) -> dict[str, str]:
        """What a job is found by."""
        noted = {_RUN: self.uri, _KIND: kind, _JOB: job, _ATTEMPT: str(number)}
        return {key: str(value) for key, value in noted.items()} | {
            _HOST: socket.gethostname(),
            _RECIPE: self.recipe,
        }

    def among(self, records: Iterable[Record], kind: Kind, job: str | None = None) -> list[Record]:
        """The run's jobs of a kind, the first submitted first."""
        found = [
            record
            for record in records
            if record.notes.get(_RUN) == self.uri
            and record.notes.get(_KIND) == kind
            and job in (None, record.notes.get(_JOB))
        ]
        return sorted(found, key=lambda record: (_started(record), number_of(record)))

    def next_number(self, records: Iterable[Record], kind: Kind, job: str) -> int:
        """The number of the next job of that name."""
        return 1 + max((number_of(record) for record in self.among(records, kind, job)), default=0)


def _started(record: Record) -> float:
    return math.inf if record.started is None else record.started


def number_of(record: Record) -> int:
    """Which attempt it is; they count from one."""
    number = record.notes.get(_ATTEMPT, "")
    return int(number) if number.isdigit() else 0


def job_of(record: Record) -> str:
    """Which of a recipe's jobs it does."""
    return record.notes.get(_JOB, "")


def host_of(record: Record) -> str:
    """The machine that submitted it."""
    return record.notes.get(_HOST, "an unknown machine")


def recipe_of(record: Record) -> str:
    """The digest of the recipe that it runs."""
    return record.notes.get(_RECIPE, "")
