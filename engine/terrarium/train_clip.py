"""Train the embedded CLIP on literal captions: ``python -m engine.terrarium.train_clip``.

Plain contrastive learning (InfoNCE) on fresh scenes: an image, and a sentence that names what can
be seen in it. No caption says what a scene evokes. A checkpoint is kept while it runs; the same
command goes on from it.
"""

import argparse
import os
from pathlib import Path
from typing import Final

import numpy as np
import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from engine.terrarium import CLIP_DIR, MODEL_DIR
from engine.terrarium.clip import build, save, take_tower, tokenizer
from engine.terrarium.grammar import description, literal
from engine.terrarium.progress import Progress
from engine.terrarium.vision import to_pixels
from engine.terrarium.world import TRAINING_SEED, Scene, scene

SCENES: Final = 80_000
BATCH: Final = 256
# Largest learning rates; the image tower knows much already.
_TEXT_RATE, _IMAGE_RATE = 1.5e-3, 5e-4
_SEED, _TEST_SEED = TRAINING_SEED + 2, 2 * TRAINING_SEED


def train(directory: Path, effort: float, device: torch.device) -> None:
    """Train on fresh scenes and save the model.

    Args:
        directory: Where the model goes; a checkpoint lies in it meanwhile.
        effort: How many scenes, 1 for the usual number.
        device: Where to train.
    """
    torch.manual_seed(0)
    directory.mkdir(parents=True, exist_ok=True)
    model, progress = build().to(device), Progress("clip", effort * SCENES, directory)
    take_tower(model, MODEL_DIR)
    seeing = list(model.visual.parameters())
    known = {id(value) for value in seeing}
    reading = [value for value in model.parameters() if id(value) not in known]
    optimizer = torch.optim.AdamW(
        [{"params": seeing}, {"params": reading}], betas=(0.9, 0.98), weight_decay=0.05
    )
    progress.restore(model, optimizer)
    tokens, compare = tokenizer(), ClipLoss()
    test = [scene(_TEST_SEED, number) for number in range(500)]
    while not progress.over():
        start = progress.advance(BATCH)
        scenes = [scene(_SEED, start + number) for number in range(BATCH)]
        texts = [_caption(one, start + number) for number, one in enumerate(scenes)]
        for group, peak in zip(optimizer.param_groups, (_IMAGE_RATE, _TEXT_RATE), strict=True):
            group["lr"] = progress.rate(peak)
        with torch.autocast(device.type, torch.bfloat16):
            images, words, scale = model(to_pixels(scenes).to(device), tokens(texts).to(device))
        loss = compare(images.float(), words.float(), scale)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
        if progress.due():
            progress.report(loss.item(), recall(model, test, device))
            progress.keep(model, optimizer)
    print(recall(model, test, device), flush=True)
    save(model, directory)
    progress.forget()


def _caption(one: Scene, number: int) -> str:
    """The whole description half of the time, else a sentence about a part of the scene."""
    rng = np.random.default_rng((_SEED, number))
    return description(one) if rng.random() < 0.5 else literal(one, rng)


@torch.no_grad()
def recall(model: nn.Module, scenes: list[Scene], device: torch.device) -> dict[str, float]:
    """Recall at 1 and 5 of each image's description among those of all the scenes."""
    tokens = tokenizer()([description(one) for one in scenes]).to(device)
    images, texts, _ = model(to_pixels(scenes).to(device), tokens)
    scores: Tensor = images @ texts.T
    ranks = (scores > scores.diagonal()[:, None]).sum(dim=1)
    return {f"R@{k}": float((ranks < k).float().mean()) for k in (1, 5)}


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the embedded CLIP on literal captions.")
    parser.add_argument("--effort", type=float, default=1.0, help="share of the usual scenes")
    parser.add_argument("--out", type=Path, default=CLIP_DIR, help="directory to write")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 16))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.out, options.effort, torch.device(options.device))


if __name__ == "__main__":
    main()
