"""Every method learns 64 pairs by heart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.terrarium.held_out import held_out_scenes, text_sets
from engine.terrarium.render import image
from engine.training.backbone import Backbone
from engine.training.method import Method, Targets
from engine.training.methods import build_method
from engine.training.optimization import build_optimizer, clip_gradients, set_rates
from engine.training.step import LocalBatch, accumulate
from engine.training.world import World
from tests.training.tiny import load, pixels, settings, write_clip

PAIRS, GOAL = 64, 0.95
#: The highest rate, and the steps after which a method has failed.
TRIES = {
    "full": (3e-3, 120),
    "lora": (3e-2, 200),
    "pvse": (5e-3, 600),
    "pcme": (1e-2, 200),
    "dive": (3e-3, 200),
    "prefix": (1e-1, 100),
}


@pytest.mark.parametrize("method", ["full", "lora", "pvse", "pcme", "dive"])
def test_noise_and_nonsense(tmp_path: Path, method: str) -> None:
    """Images of noise and captions of random words: there is nothing to understand, only to know."""
    name = write_clip(tmp_path)
    random = np.random.default_rng(2)
    texts = [" ".join(random.choice(["red", "tree", "hope", "sea", "two", "old"], 8)) for _ in range(PAIRS)]
    learn(name, method, pixels(PAIRS, seed=5), texts)


def test_prefix_knows_literal_captions() -> None:
    """Its 25 tokens are all that it learns: they can mend what a model nearly knows, and not more."""
    scenes = held_out_scenes(PAIRS)
    backbone = load("open_clip:terrarium")
    seen = torch.stack([backbone.prepare(image(scene)) for scene in scenes])
    literal = text_sets(scenes)[0]
    texts = [literal.texts[np.flatnonzero(literal.scenes == number)[-1]] for number in range(PAIRS)]
    learn("open_clip:terrarium", "prefix", seen, texts)


def learn(name: str, method: str, seen: Tensor, texts: Sequence[str]) -> None:
    rate, steps = TRIES[method]
    backbone = load(name)
    chosen = settings(name, method, batch=PAIRS, micro_batch=PAIRS, learning_rate=rate)
    torch.manual_seed(0)
    made = build_method(backbone, chosen)
    batch = batch_of(backbone, seen, texts, level=4 if method == "prefix" else -1)
    optimizer, before = build_optimizer(made, chosen), found(made, batch)
    assert before < GOAL, "there is nothing to learn"
    for step in range(steps):
        set_rates(optimizer, min(1.0, (step + 1) / 10))
        targets = replace(batch.targets, seed=step)
        accumulate(made, replace(batch, targets=targets), World(), PAIRS, None, None)
        clip_gradients((each for each in made.parameters() if each.requires_grad), 1.0)
        optimizer.step()
        if step % 10 == 9 and (after := found(made, batch)) > GOAL:
            return
    pytest.fail(f"R@1 of {before:.2f} before and of {after:.2f} after {steps} steps")


def batch_of(backbone: Backbone, seen: Tensor, texts: Sequence[str], level: int) -> LocalBatch:
    count = len(texts)
    targets = Targets(torch.arange(count), torch.full((count,), level), torch.ones(count), seed=0)
    ids = tuple(map(str, range(count)))
    good, tokens = torch.ones(count, dtype=torch.bool), backbone.tokenize(texts)
    return LocalBatch(seen, tokens, good, slice(0, count), targets, 1.0, ids)


@torch.no_grad()
def found(method: Method, batch: LocalBatch) -> float:
    """R@1, of the worse way."""
    images = method.image_side(batch.pixels, batch.targets.levels)
    nearness = method.similarity(images, method.text_side(batch.tokens))
    own = torch.arange(len(nearness))
    return min(float((nearness.argmax(dim=way) == own).float().mean()) for way in (0, 1))
