"""The difficulty job: `python -m jobs.difficulty RECIPE` in a Ray job is `connote difficulty RECIPE`."""

from __future__ import annotations

if __name__ == "__main__":
    from jobs.command import run_as_command

    run_as_command("difficulty")
