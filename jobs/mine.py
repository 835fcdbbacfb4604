"""The mining job: describe, associate, caption. `python -m jobs.mine RECIPE` in a Ray job."""

from __future__ import annotations

if __name__ == "__main__":
    from jobs.command import run_as_command

    run_as_command("run")
