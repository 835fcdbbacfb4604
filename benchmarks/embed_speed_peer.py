"""clip-retrieval's side of `embed_speed`: run in its own environment; needs nothing of this project.

Its own worker runs as it is, with the local weights in the place of a download. Only its log, which is
written by another process, is replaced by one that notes when each batch was done.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import open_clip
import torch
from clip_retrieval.clip_inference import worker

finished: list[tuple[float, int]] = []


class Log:
    """Stands for clip-retrieval's log."""

    def __init__(self, **_: Any) -> None: ...

    def start(self) -> None: ...

    def end(self) -> None: ...

    def __call__(self, stats: dict[str, Any]) -> None:
        finished.append((time.perf_counter(), int(stats["sample_count"])))


def main(images: str, model: str, out: str, batch: int, threads: int, workers: int) -> None:
    """Embed a folder of images; prints when each batch was done, as JSON."""
    torch.set_num_threads(threads)
    settings = json.loads(Path(model, "open_clip_config.json").read_text())["model_cfg"]
    with tempfile.TemporaryDirectory() as folder:
        # clip-retrieval names models by their architecture: this one is made known to open_clip.
        Path(folder, "benchmarked.json").write_text(json.dumps(settings))
        open_clip.add_model_config(folder)
    worker.LoggerWriter = Log
    worker.worker(
        tasks=[0],
        input_dataset=images,
        output_folder=out,
        output_partition_count=1,
        batch_size=batch,
        num_prepro_workers=workers,
        enable_text=False,
        # `open_clip:ARCHITECTURE/CHECKPOINT`: a checkpoint that is a path is loaded from there.
        clip_model=f"open_clip:benchmarked/{model}/open_clip_model.safetensors",
        use_jit=False,
    )
    print(json.dumps(finished))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:7]))
