"""Runs benchmarks and enters what they print into docs/benchmarks.md, one section each."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

NAMES = (
    "engine_overhead",
    "planning",
    "speed_of_light",
    "ray_data_llm",
    "prefix_sharing",
    "scaling",
    "knn_speed",
    "cluster_speed",
    "embed_speed",
    "rank_speed",
    "calibration_speed",
    "train_speed",
    "train_scaling",
    "checkpoint_cost",
    "terrarium_quality",
)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Each compares two rates of the same run, one right after the other, and exits 1 below its floor. Rates differ
from machine to machine and from hour to hour; ratios less so. `python -m benchmarks` runs them all (some
hours) and renews this page, `python -m benchmarks NAME` one of them and its section; `--quick`
is for a look and enters nothing.
"""
_LINE = re.compile(r"^(\w+) ratio=(\S+) floor=(\S+) against=(\S+)$", re.MULTILINE)


def main() -> int:
    """Run them one after the other; the exit status counts those below their floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(NAMES)):
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(NAMES)}")
    failed = 0
    for name in arguments.names or NAMES:
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if arguments.quick else [])]
        status, printed = passed_on(command)
        failed += status != 0
        if not arguments.quick and _LINE.search(printed):
            PAGE.write_text(page({**read_sections(PAGE.read_text()), name: section(name, printed)}))
    return failed


def passed_on(command: list[str]) -> tuple[int, str]:
    """Run a command; its exit status and what it printed, every line of which is printed here as it comes."""
    lines = list[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


def read_sections(text: str) -> dict[str, str]:
    """The page's sections by the benchmark's name."""
    found = re.split(r"^## (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: body.strip() for name, body in zip(found[::2], found[1::2], strict=True)}


def section(name: str, printed: str) -> str:
    """What the benchmark compares (its module's docstring), where and when it ran, what it printed."""
    about = str(__import__(f"benchmarks.{name}", fromlist=["__doc__"]).__doc__).strip()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    machine = f"{os.cpu_count()} cores ({platform.machine()}), no GPU"
    lines = "\n".join(line for line in printed.splitlines() if not line.startswith("catalog"))
    where = f"{datetime.date.today()}, commit {commit.stdout.strip()}, {machine}:"
    return f"{about}\n\n{where}\n\n```\n{lines.strip()}\n```"


def page(sections: dict[str, str]) -> str:
    """The page: a table of all ratios, then the sections."""
    rows = ["| benchmark | against | ratio | floor |", "|---|---|---|---|"]
    for name in NAMES:
        for found in _LINE.finditer(sections.get(name, "")):
            rows.append(f"| [{name}](#{name}) | {found[4].replace('_', ' ')} | **{found[2]}** | {found[3]} |")
    bodies = [f"## {name}\n\n{sections[name]}\n" for name in NAMES if name in sections]
    return "\n".join([HEAD, "\n".join(rows), "", *bodies])


if __name__ == "__main__":
    sys.exit(main())
