"""clip-retrieval's side of `embed_speed`: run in its own environment; needs nothing of this project.

Its own worker runs as it is, with the local weights in the place of a download. Only its log, which is
written by another process, is replaced by one that notes when each batch was done.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from clip_retrieval.clip_inference import worker

finished: list[tuple[float, int]] = []


class Log:
    """Stands for clip-retrieval's log."""

    def __init__(self, **_: Any) -> None: ...

    def start(self) -> None: ...

    def end(self) -> None: ...

    def __call__(self, stats: dict[str, Any]) -> None:
        finished.append((time.perf_counter(), int(stats["sample_count"])))


def main(images: str, weights: str, out: str, batch: int, threads: int) -> None:
    """Embed a folder of images; prints when each batch was done, as JSON."""
    worker.LoggerWriter = Log
    worker.worker(
        tasks=[0],
        input_dataset=images,
        output_folder=out,
        output_partition_count=1,
        batch_size=batch,
        num_prepro_workers=threads,
        enable_text=False,
        # `open_clip:ARCHITECTURE/CHECKPOINT`: a checkpoint that is a path is loaded from there.
        clip_model=f"open_clip:ViT-B-32/{weights}",
        use_jit=False,
    )
    print(json.dumps(finished))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
