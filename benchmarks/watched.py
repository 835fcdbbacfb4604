"""A side of a benchmark in a process of its own, and how much memory it takes with all that it starts."""

from __future__ import annotations

import subprocess
from contextlib import suppress

import psutil

#: Seconds between two looks: one at twenty processes of Ray takes some 10 ms.
EVERY_S = 2.0


def run(command: list[str]) -> tuple[str, float]:
    """Run a command to its end.

    Returns:
        The last line that it printed, and the most MiB that it and its children had at once. Memory that
        several of them share is counted once (proportional set size).

    Raises:
        CalledProcessError: it failed.
    """
    most = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while True:
            try:
                printed, _ = process.communicate(timeout=EVERY_S)
                break
            except subprocess.TimeoutExpired:
                most = max(most, _memory(process.pid))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed.strip().splitlines()[-1], most / 2**20


def _memory(pid: int) -> float:
    """Bytes of a process and its descendants; who leaves meanwhile has none."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for each in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += each.memory_full_info().pss
    return total
