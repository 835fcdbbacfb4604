"""The polysemy job: `python -m jobs.polysemy RECIPE` in a Ray job is `connote polysemy RECIPE`."""

from __future__ import annotations

if __name__ == "__main__":
    from jobs.command import run_as_command

    run_as_command("polysemy")
