"""The evaluation job: `python -m jobs.evaluate RECIPE` in a Ray job is `connote evaluate RECIPE`."""

from __future__ import annotations

if __name__ == "__main__":
    from jobs.command import run_as_command

    run_as_command("evaluate")
