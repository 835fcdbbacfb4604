"""The outcome of a benchmark: one line that people and CI read, and an exit status."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn


@dataclass(frozen=True)
class Outcome:
    """A ratio against a named peer or limit; below `floor` the benchmark fails."""

    name: str
    ratio: float
    floor: float
    against: str

    def __str__(self) -> str:
        return f"{self.name} ratio={self.ratio:.3g} floor={self.floor:g} against={self.against}"


def main(run: Callable[[bool], Outcome | list[Outcome]]) -> None:
    """Run a benchmark from the command line: `--quick` for a look, without it for the record."""
    parser = argparse.ArgumentParser(description=run.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    found = run(parser.parse_args().quick)
    conclude(found if isinstance(found, list) else [found])


def conclude(outcomes: Sequence[Outcome]) -> NoReturn:
    """Print them, and exit with 1 if one is below its floor."""
    print("\n".join(map(str, outcomes)))
    raise SystemExit(any(outcome.ratio < outcome.floor for outcome in outcomes))


def median(values: list[float]) -> float:
    """The median, after printing every value: the spread says what a ratio is worth."""
    print("  rounds:", " ".join(f"{value:.3g}" for value in values))
    return statistics.median(values)
