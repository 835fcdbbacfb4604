"""The fine-tuning job over a run: `connote finetune RECIPE`, `python -m jobs.finetune RECIPE`."""

from __future__ import annotations

if __name__ == "__main__":
    from jobs.command import run_as_command

    run_as_command("finetune")
