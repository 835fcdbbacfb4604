"""Where a task computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.clustering.fitted import Fit, Placed, Placer
from engine.device import device_of
from engine.encoders.bank import EncoderBank
from engine.errors import RecipeError
from engine.recipe import Embed
from engine.recipe.analysis import Cluster


def test_without_a_reserved_gpu_on_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray shows a task those of others, too."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(0, "cluster.gpus") == "cpu"
    assert device_of(0.5, "cluster.gpus") == "cuda"


def test_a_gpu_that_torch_cannot_use_is_an_error_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that Ray was told of, beside a torch for processors."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        RecipeError, match=r"^polysemy.gpus is 1, and torch .* finds no GPU on this node; set"
    ):
        device_of(1, "polysemy.gpus")
    rows = np.zeros((1, 2), np.float32)
    nothing = np.zeros(1, np.float32)
    placed = Placed(rows, rows, np.zeros(1, np.int32), nothing, nothing)
    made = Fit(np.zeros(1, np.uint64), rows, placed, np.empty(0), np.empty(0), {})
    with pytest.raises(RecipeError, match=r"^cluster[.]gpus is 1"):
        Placer(made, Cluster(encoder="open_clip:terrarium", gpus=1))
    with pytest.raises(RecipeError, match=r"^embed[.]gpus is 0.5"):
        EncoderBank(Embed(encoders=("open_clip:terrarium",), gpus=0.5))
