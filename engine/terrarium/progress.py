"""How far a phase of the training is: its scenes, learning rate, reports and checkpoint."""

import math
import os
import time
from pathlib import Path
from typing import Final

import torch
from torch import nn

_REPORT_EVERY: Final = 60.0
_WARM_UP: Final = 0.03


class Progress:
    """The state of one phase; its length is in scenes, so that a busy machine changes no result.

    Args:
        phase: Its name.
        total: How many scenes it lasts, those before an interruption included.
        directory: Where its checkpoint is kept.
    """

    def __init__(self, phase: str, total: float, directory: Path) -> None:
        self._phase = phase
        self._total = total
        self._directory = directory
        self._scenes = 0
        self._begun = self._reported = time.monotonic()

    def over(self) -> bool:
        """Whether all scenes have been seen."""
        return self._share() >= 1

    def advance(self, size: int) -> int:
        """Count scenes; returns the index of the first of them."""
        self._scenes += size
        return self._scenes - size

    def rate(self, peak: float) -> float:
        """The learning rate: a short warm-up, then half a cosine down to a fiftieth."""
        share = min(self._share(), 1.0)
        falling = 0.02 + 0.49 * (1 + math.cos(math.pi * share))
        return peak * min(1.0, share / _WARM_UP + 0.01) * falling

    def due(self) -> bool:
        """Whether it is time to report and to keep a checkpoint."""
        return time.monotonic() - self._reported > _REPORT_EVERY

    def report(self, loss: float, figures: dict[str, float]) -> None:
        """Print a line."""
        self._reported = time.monotonic()
        spent = self._reported - self._begun
        said = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        print(
            f"{self._phase} {spent / 60:.1f} min  {self._scenes} of {self._total:.0f} scenes "
            f"({self._scenes / spent:.0f}/s)  loss {loss:.3f}  {said}",
            flush=True,
        )

    def keep(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "module": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scenes": self._scenes,
            "seconds": time.monotonic() - self._begun,
        }
        path = self._path()
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self._path().exists():
            return
        state = torch.load(self._path(), weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        self._scenes = state["scenes"]
        self._begun = time.monotonic() - state["seconds"]

    def forget(self) -> None:
        """Remove the checkpoint."""
        self._path().unlink(missing_ok=True)

    def _path(self) -> Path:
        return self._directory / f"checkpoint-{self._phase}.pt"

    def _share(self) -> float:
        return self._scenes / self._total
