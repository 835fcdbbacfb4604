"""Runs every benchmark and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

NAMES = (
    "engine_overhead",
    "scaling",
    "prefix_sharing",
    "speed_of_light",
    "ray_data_llm",
    "terrarium_quality",
)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main() -> int:
    """Run them one after the other; the exit status counts those below their floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("names", nargs="*", default=NAMES)
    arguments = parser.parse_args()
    sections, failed = [], 0
    for name in arguments.names:
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if arguments.quick else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="", flush=True)
        failed += done.returncode != 0
        sections.append(f"## {name}\n\n{_about(name)}\n\n```\n{done.stdout.rstrip()}\n```\n")
    if not arguments.quick:
        PAGE.write_text("\n".join([_head(), *sections]))
    return failed


def _head() -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    machine = f"{os.cpu_count()} cores ({platform.machine()}), no GPU"
    return (
        "# Benchmarks\n\nEach compares two rates of the same run; its last line is the ratio and the floor. "
        "`python -m benchmarks` runs them all.\n\n"
        f"{datetime.date.today()}, commit {commit}, {machine}.\n"
    )


def _about(name: str) -> str:
    module = __import__(f"benchmarks.{name}", fromlist=["__doc__"])
    return str(module.__doc__).strip()


if __name__ == "__main__":
    sys.exit(main())
