"""Train the embedded model from scratch: ``python -m engine.terrarium.train``.

First the vision tower alone, then the language model on what the finished tower sees; see
`engine.terrarium.vision` and `engine.terrarium.lessons` for why. A checkpoint is kept while it
runs; the same command goes on from it.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from engine.terrarium.language import answer_loss, exactness
from engine.terrarium.lessons import Batch, Teacher, collate
from engine.terrarium.model import build, load, save
from engine.terrarium.progress import Progress
from engine.terrarium.tokens import build_tokenizer
from engine.terrarium.vision import Seer, accuracy, labels, loss, to_pixels
from engine.terrarium.world import TRAINING_SEED, Scene, scene

VISION_SCENES: Final = 128_000
LANGUAGE_SCENES: Final = 44_000
VISION_BATCH: Final = 64
LOOK_BATCH: Final = 32
READ_BATCH: Final = 16
# Held out of training by their seed, for the figures printed while it runs.
_TEST_SEED: Final = 2 * TRAINING_SEED


def train(directory: Path, effort: float, device: torch.device, start: Path | None = None) -> None:
    """Train on fresh scenes and save the model.

    Args:
        directory: Where the model goes; a checkpoint lies in it meanwhile.
        effort: How many scenes, 1 for the usual number.
        device: Where to train; on a GPU batches are eight times as large.
        start: A model whose weights to go on from: it sees already, and only its language is trained.
    """
    torch.manual_seed(0)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    if start is None:
        seeing = Progress("vision", effort * VISION_SCENES, directory)
        seer = Seer().to(device)
        see(seer, seeing, device)
        model = build(tokenizer)
        model.model.vision_tower.load_state_dict(seer.tower.state_dict())
    else:
        model = load(start, tokenizer)
    model.to(device)
    model.model.vision_tower.requires_grad_(False)
    model.set_attn_implementation("sdpa")
    speaking = Progress("language", effort * LANGUAGE_SCENES, directory)
    _speak(model, Teacher(tokenizer, seed=0), speaking, device)
    save(model, tokenizer, directory)
    for phase in ("vision", "language"):
        Progress(phase, 0, directory).forget()


def see(seer: Seer, progress: Progress, device: torch.device, seed: int = TRAINING_SEED) -> None:
    """Teach a vision tower kinds, colours and places, on fresh scenes of a seed."""
    optimizer = _optimizer(seer)
    progress.restore(seer, optimizer)
    test = [scene(_TEST_SEED, number) for number in range(256)]
    for scenes in _scenes(seed, VISION_BATCH, progress, device, crowded=True):
        right = torch.stack([torch.from_numpy(labels(one)) for one in scenes])
        _set_rate(optimizer, progress.rate(1.2e-3))
        with half(device):
            answers = seer(to_pixels(scenes).to(device))
        cost = loss(answers, right.to(device))
        _step(seer, optimizer, cost)
        if progress.due():
            progress.report(cost.item(), accuracy(seer, test))
            progress.keep(seer, optimizer)
    progress.keep(seer, optimizer)


def _speak(model: Any, teacher: Teacher, progress: Progress, device: torch.device) -> None:
    optimizer = _optimizer(model)
    progress.restore(model, optimizer)
    test = [scene(_TEST_SEED, number) for number in range(64)]
    for scenes in _scenes(TRAINING_SEED + 1, LOOK_BATCH, progress, device):
        read = scenes[: len(scenes) * READ_BATCH // LOOK_BATCH]
        _set_rate(optimizer, progress.rate(1.5e-3))
        with half(device):
            looked = answer_loss(model, *_look(model, teacher, scenes, device))
            was_read = answer_loss(model, _read(teacher, read, device), None)
        _step(model, optimizer, looked + 0.5 * was_read)
        if progress.due():
            figures = {
                "look": exactness(model, *_look(model, teacher, test, device)),
                "read": exactness(model, _read(teacher, test, device), None),
            }
            progress.report(looked.item(), figures)
            progress.keep(model, optimizer)
    progress.keep(model, optimizer)


def _look(model: Any, teacher: Teacher, scenes: list[Scene], device: torch.device) -> tuple[Batch, Tensor]:
    with torch.no_grad():
        pixels = to_pixels(scenes).to(device)
        features = model.model.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
    return collate([teacher.look(one) for one in scenes]).to(device), features


def _read(teacher: Teacher, scenes: list[Scene], device: torch.device) -> Batch:
    return collate([teacher.read(one) for one in scenes]).to(device)


def _scenes(
    seed: int, size: int, progress: Progress, device: torch.device, crowded: bool = False
) -> Iterator[list[Scene]]:
    """Fresh scenes until they have all been seen; when crowded, three in four hold six elements."""
    size *= 8 if device.type == "cuda" else 1
    while not progress.over():
        start = progress.advance(size)
        yield [scene(seed, start + number, 6 if crowded and number % 4 else None) for number in range(size)]


def _optimizer(module: nn.Module) -> torch.optim.AdamW:
    learned = [value for value in module.parameters() if value.requires_grad]
    return torch.optim.AdamW(learned, betas=(0.9, 0.98), weight_decay=0.05)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _step(module: nn.Module, optimizer: torch.optim.Optimizer, cost: Tensor) -> None:
    cost.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def half(device: torch.device) -> torch.autocast:
    """bfloat16 where the device has units for it; on other processors float32 is faster, often by far."""
    computes = device.type != "cpu" or torch.cpu._is_amx_tile_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=computes)


def main() -> None:
    """Read the command line and train."""
    from engine.terrarium import MODEL_DIR

    parser = argparse.ArgumentParser(description="Train the embedded model from scratch.")
    parser.add_argument("--effort", type=float, default=1.0, help="share of the usual scenes")
    parser.add_argument("--start", type=Path, help="model directory to go on from: only language is trained")
    parser.add_argument("--out", type=Path, default=MODEL_DIR, help="model directory to write")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    # On a busy machine, threads waiting for each other cost more than they give: use fewer there.
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 16))
    options = parser.parse_args()
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    train(options.out, options.effort, torch.device(device), options.start)
    print(f"saved {options.out} after {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
