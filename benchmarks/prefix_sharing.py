"""Captions/s when the prompts of an image share their prefix, over the words placed before the image.

The 20 captions of an image are the same requests on both sides; only the order of their pieces
differs: image and definitions first and the words last, or the words first, which leaves nothing
to share. The model is randomly initialised, in proportions that make prefill weigh what it does
in production: 576 image tokens, about 100 million parameters. The ratio on the embedded model,
whose image is 64 tokens, is printed beside it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.outcome import Outcome, main, median
from engine.generation.protocol import Picture, Request
from engine.recipe import Sampling, Vllm

CAPTIONS = 20
WORDS = [
    f"{level} {word}"
    for level in ("near", "broad", "scene", "idea", "myth")
    for word in ("sea", "oak", "fox", "sun")
]
#: As long as the definitions of the five levels in the package's prompt.
DEFINITIONS = "Write one short caption that is grounded in the picture and holds the word. " * 8


def run(quick: bool) -> Outcome:
    """Captions/s with shared prefixes, against words before the image."""
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory() as name:
        large = Path(name) / "large"
        build_large(large)
        for label, model, images in (
            ("embedded model", "terrarium", 16),
            ("100 M parameters", str(large), 4),
        ):
            ratios = []
            for _ in range(rounds):
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.prefix_sharing", "--measure", model, str(images)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                rates = json.loads(done.stdout.splitlines()[-1])
                ratios.append(rates["shared"] / rates["words_first"])
                print(f"  {label}: {rates}")
        return Outcome("prefix_sharing", median(ratios), 2.0, "words_before_the_image")


def measure(model: str, images: int) -> dict[str, float]:
    """Captions/s of both orders in one engine, and the share of prompt tokens found in the cache."""
    from engine.generation.vllm_engine import VllmGenerator

    # No more requests than the captions of two images at once: as many as keep both cores at work.
    generator = VllmGenerator(
        Vllm(backend="vllm", model=model, cpus=2, requests_in_flight=2 * CAPTIONS, max_model_len=1024)
    )
    rng = np.random.default_rng(0)

    async def play() -> dict[str, float]:
        await generator.generate(_requests("warm", rng, 1, words_first=False))
        figures = {}
        for label, words_first in (("shared", False), ("words_first", True)):
            requests = _requests(label, rng, images, words_first)
            before, started = generator.meter.snapshot(), time.perf_counter()
            responses = await generator.generate(requests)
            seconds = time.perf_counter() - started
            assert not any(response.error for response in responses), responses[0].error
            after = generator.meter.snapshot()
            cached = after["cached_tokens"] - before["cached_tokens"]
            figures[label] = round(len(requests) / seconds, 2)
            figures[f"{label}_cached"] = round(cached / (after["prompt_tokens"] - before["prompt_tokens"]), 3)
        await generator.close()
        return figures

    return asyncio.run(play())


def _requests(label: str, rng: np.random.Generator, images: int, words_first: bool) -> list[Request]:
    requests = []
    for number in range(images):
        pixels = rng.integers(0, 255, (336, 336, 3), dtype=np.uint8)
        picture = Picture(f"{label}{number}", Image.fromarray(pixels))
        for words in WORDS[:CAPTIONS]:
            pieces: tuple[str | Picture, ...] = (picture, DEFINITIONS, words)
            content = tuple(reversed(pieces)) if words_first else pieces
            # As many tokens as a caption of nine words; a random model never ends by itself.
            requests.append(
                Request("caption", content, Sampling(temperature=0, top_p=1, max_tokens=12), seed=1)
            )
    return requests


def build_large(directory: Path) -> None:
    """Save a randomly initialised LLaVA: 336 x 336 images in patches of 14, 12 layers of 768."""
    import torch
    from transformers import CLIPImageProcessor, LlavaForConditionalGeneration

    from engine.terrarium import model as small
    from engine.terrarium.tokens import build_tokenizer

    tokenizer = build_tokenizer()
    config = small.configure(tokenizer)
    _set(config.vision_config, image_size=336, patch_size=14, hidden_size=384, intermediate_size=1536)
    _set(config.vision_config, num_hidden_layers=6, num_attention_heads=6)
    _set(config.text_config, hidden_size=768, intermediate_size=2048, num_hidden_layers=12)
    _set(config.text_config, num_attention_heads=12, num_key_value_heads=12, head_dim=64)
    config.image_seq_length = 576
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    print(f"  {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters, 576 image tokens")
    small.save(model, tokenizer, directory)
    processor = small.processor(tokenizer)
    processor.image_processor = CLIPImageProcessor(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
    )
    processor.patch_size = 14
    processor.save_pretrained(directory)


def _set(config: Any, **values: int) -> None:
    for name, value in values.items():
        setattr(config, name, value)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main(run)
