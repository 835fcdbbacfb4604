"""Train an embedded CLIP on literal captions: ``python -m engine.terrarium.train_clip --model NAME``.

Plain contrastive learning (InfoNCE) on fresh scenes: an image, and a sentence that names what can
be seen in it. No caption says what a scene evokes. The image tower has learnt to see before that.
A checkpoint is kept while it runs; the same command goes on from it.
"""

import argparse
import os
from pathlib import Path
from typing import Final

import numpy as np
import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from engine.terrarium import MODEL_DIR
from engine.terrarium.clip import Tokenize, build, described_tower, save, take_tower, tokenizer
from engine.terrarium.clip_shapes import EMBEDDER, SHAPES, Shape
from engine.terrarium.grammar import description, literal
from engine.terrarium.progress import Progress
from engine.terrarium.train import VISION_SCENES, half, see
from engine.terrarium.vision import Seer, to_pixels
from engine.terrarium.vision_shape import vision_config
from engine.terrarium.world import TRAINING_SEED, Scene, scene

SCENES: Final = 80_000
BATCH: Final = 256
# Largest learning rates; the image tower knows much already.
_TEXT_RATE, _IMAGE_RATE = 1.5e-3, 5e-4
_SEED, _TEST_SEED = TRAINING_SEED + 2, 2 * TRAINING_SEED
# Between the seeds of two models.
_APART = 10


def train(directory: Path, effort: float, device: torch.device, shape: Shape = EMBEDDER) -> None:
    """Train on fresh scenes and save the model.

    Args:
        directory: Where the model goes; a checkpoint lies in it meanwhile.
        effort: How many scenes, 1 for the usual number.
        device: Where to train.
        shape: Which of the embedded CLIPs.
    """
    torch.manual_seed(shape.seed)
    directory.mkdir(parents=True, exist_ok=True)
    model, progress = build(shape).to(device), Progress("clip", effort * SCENES, directory)
    seeing_progress = Progress("vision", effort * VISION_SCENES, directory)
    take_tower(model, _tower(shape, seeing_progress, device))
    seeing = list(model.visual.parameters())
    known = {id(value) for value in seeing}
    reading = [value for value in model.parameters() if id(value) not in known]
    optimizer = torch.optim.AdamW(
        [{"params": seeing}, {"params": reading}], betas=(0.9, 0.98), weight_decay=0.05
    )
    progress.restore(model, optimizer)
    tokens, compare = tokenizer(shape), ClipLoss()
    seed = _SEED + _APART * shape.seed
    test = [scene(_TEST_SEED, number) for number in range(500)]
    while not progress.over():
        start = progress.advance(BATCH)
        scenes = [scene(seed, start + number) for number in range(BATCH)]
        texts = [_caption(one, (seed, start + number)) for number, one in enumerate(scenes)]
        for group, peak in zip(optimizer.param_groups, (_IMAGE_RATE, _TEXT_RATE), strict=True):
            group["lr"] = progress.rate(peak)
        with half(device):
            images, words, scale = model(to_pixels(scenes).to(device), tokens(texts).to(device))
        loss = compare(images.float(), words.float(), scale)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
        if progress.due():
            progress.report(loss.item(), recall(model, test, device, tokens))
            progress.keep(model, optimizer)
    print(recall(model, test, device, tokens), flush=True)
    save(model, directory, shape)
    progress.forget()
    seeing_progress.forget()


def _tower(shape: Shape, progress: Progress, device: torch.device) -> dict[str, Tensor]:
    """The describing model's image tower, or one of another shape that was taught in the same way."""
    if shape == EMBEDDER:
        return described_tower(MODEL_DIR)
    seer = Seer(vision_config(shape.width, shape.layers, shape.head_width)).to(device)
    see(seer, progress, device, TRAINING_SEED + _APART * shape.seed)
    return dict(seer.tower.state_dict())


def _caption(one: Scene, seed: tuple[int, int]) -> str:
    """The whole description half of the time, else a sentence about a part of the scene."""
    rng = np.random.default_rng(seed)
    return description(one) if rng.random() < 0.5 else literal(one, rng)


@torch.no_grad()
def recall(model: nn.Module, scenes: list[Scene], device: torch.device, read: Tokenize) -> dict[str, float]:
    """Recall at 1 and 5 of each image's description among those of all the scenes."""
    tokens = read([description(one) for one in scenes]).to(device)
    images, texts, _ = model(to_pixels(scenes).to(device), tokens)
    scores: Tensor = images @ texts.T
    ranks = (scores > scores.diagonal()[:, None]).sum(dim=1)
    return {f"R@{k}": float((ranks < k).float().mean()) for k in (1, 5)}


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train an embedded CLIP on literal captions.")
    parser.add_argument("--model", default=EMBEDDER.name, choices=sorted(SHAPES), help="which one")
    parser.add_argument("--effort", type=float, default=1.0, help="share of the usual scenes")
    parser.add_argument("--out", type=Path, help="directory to write; by default the package's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 16))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = SHAPES[options.model]
    train(options.out or shape.directory, options.effort, torch.device(options.device), shape)


if __name__ == "__main__":
    main()
