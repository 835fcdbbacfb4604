"""What supervision needs of a cluster's jobs: four calls, and what each may say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from engine.errors import ConnoteError


class Phase(StrEnum):
    """Where a job is; Ray's own words."""

    pending = "PENDING"
    running = "RUNNING"
    succeeded = "SUCCEEDED"
    failed = "FAILED"
    stopped = "STOPPED"


@dataclass(frozen=True)
class Request:
    """A job to be started: its name on the cluster, its command line, and notes to find it by."""

    id: str
    command: str
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A job as the cluster knows it.

    Attributes:
        id: its name on the cluster.
        phase: where it is.
        notes: that it was submitted with.
        exit_code: of its process; negative after a signal, None where it has none.
        reason: what the cluster says of its end, the last lines of its log among it.
        started: seconds since 1970; None before it starts.
    """

    id: str
    phase: Phase
    notes: Mapping[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    reason: str = ""
    started: float | None = None

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.phase not in (Phase.pending, Phase.running)


class Unreachable(ConnoteError):
    """The cluster does not answer now. It may again: a head node that restarts takes minutes."""


class Taken(ConnoteError):
    """A job of that name is on the cluster already."""


class JobService(Protocol):
    """The jobs of one cluster. Every call but `tail` raises Unreachable where nobody answers."""

    def submit(self, request: Request) -> None:
        """Start a job.

        Raises:
            Taken: one of that name is there; exactly one of two submitters starts it.
            RecipeError: the cluster refuses it.
        """

    def record(self, id: str) -> Record | None:
        """One job, or None where the cluster knows no such job (any more)."""

    def records(self) -> Sequence[Record]:
        """All jobs that were submitted to the cluster and that it still knows."""

    def log(self, id: str) -> str:
        """A job's log as far as it is there."""

    def tail(self, id: str) -> Iterator[str]:
        """Its log from the beginning, as it comes: pieces of text, and "" while there is none.

        Ends with the job, and where the connection breaks.
        """

    def stop(self, id: str) -> None:
        """Ask a job to leave; nothing where it has ended."""
