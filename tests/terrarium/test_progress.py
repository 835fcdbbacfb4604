"""The training's bookkeeping: it ends, slows down, and goes on where it was interrupted."""

from pathlib import Path

import torch
from torch import nn

from engine.terrarium.progress import Progress


def _learner() -> tuple[nn.Linear, torch.optim.AdamW]:
    module = nn.Linear(2, 2)
    return module, torch.optim.AdamW(module.parameters())


def test_it_counts_to_its_end(tmp_path: Path) -> None:
    progress = Progress("phase", 100, tmp_path)
    assert [progress.advance(40) for _ in range(2)] == [0, 40]
    assert not progress.over()
    progress.advance(40)
    assert progress.over()


def test_the_rate_rises_then_falls(tmp_path: Path) -> None:
    progress, rates = Progress("phase", 100, tmp_path), []
    for _ in range(100):
        rates.append(progress.rate(1.0))
        progress.advance(1)
    top = rates.index(max(rates))
    assert 0 < top < 10
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.05


def test_an_interrupted_phase_goes_on(tmp_path: Path) -> None:
    module, optimizer = _learner()
    progress = Progress("phase", 100, tmp_path)
    progress.advance(60)
    progress.keep(module, optimizer)
    other, other_optimizer = _learner()
    resumed = Progress("phase", 100, tmp_path)
    resumed.restore(other, other_optimizer)
    assert resumed.advance(1) == 60
    assert torch.equal(module.weight, other.weight)
    resumed.forget()
    assert not list(tmp_path.iterdir())


def test_without_a_checkpoint_it_begins(tmp_path: Path) -> None:
    progress = Progress("phase", 100, tmp_path)
    progress.restore(*_learner())
    assert progress.advance(1) == 0
