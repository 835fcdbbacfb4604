"""The clustering job: `python -m jobs.cluster RECIPE` in a Ray job is `connote cluster RECIPE`."""

from __future__ import annotations

if __name__ == "__main__":
    from jobs.command import run_as_command

    run_as_command("cluster")
