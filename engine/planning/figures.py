"""A figure of a plan, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Origin(StrEnum):
    """Where a figure comes from: a run's statistics, the user, or this package's assumptions."""

    measured = "measured"
    given = "given"
    assumed = "assumed"


@dataclass(frozen=True)
class Figure:
    """A number and its origin."""

    value: float
    origin: Origin
