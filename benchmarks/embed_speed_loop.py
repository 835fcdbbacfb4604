"""The peer of `embed_speed`: the best plain loop over the same model, which writes nothing.

Two ways to have images decoded while the model computes, and the faster one counts: threads of the
same process, or worker processes of torch's DataLoader.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

#: Batches that are prepared before the model asks for them.
AHEAD = 2


class Prepared(Dataset[torch.Tensor]):
    """Images as the model wants them.

    Args:
        paths: of the files.
        transform: the library's preprocessing.
        side: pixels that a JPEG is decoded to at least, in its decoder; 0 decodes all of it.
    """

    def __init__(self, paths: list[Path], transform: Any, side: int) -> None:
        self._paths, self._transform, self._side = paths, transform, side

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._paths[index]) as image:
            if self._side:
                image.draft("RGB", (self._side, self._side))
            return self._transform(image.convert("RGB"))  # type: ignore[no-any-return]


def by_threads(images: Prepared, batch: int, workers: int) -> Iterator[torch.Tensor]:
    """Batches, each prepared by threads while the ones before it are computed."""
    starts = range(0, len(images), batch)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[list[Any]] = deque()
        for start in starts:
            rows = range(start, min(start + batch, len(images)))
            waiting.append([pool.submit(images.__getitem__, row) for row in rows])
            if len(waiting) > AHEAD:
                yield torch.stack([each.result() for each in waiting.popleft()])
        while waiting:
            yield torch.stack([each.result() for each in waiting.popleft()])


def by_workers(images: Prepared, batch: int, workers: int) -> Iterator[torch.Tensor]:
    """Batches, prepared by processes."""
    yield from DataLoader(images, batch_size=batch, num_workers=workers, prefetch_factor=AHEAD)


WAYS = {"threads": by_threads, "workers": by_workers}


def run(
    way: str,
    paths: list[Path],
    model: Path,
    compute: str,
    batch: int,
    threads: int,
    workers: int,
    reduced: bool,
) -> tuple[list[tuple[float, int]], NDArray[np.float16]]:
    """When each batch was done and how many images it had; and the vectors.

    The model computes with `threads` in the type `compute`, and `workers` of the way's kind prepare images.
    """
    torch.set_num_threads(threads)
    net, transform = open_clip.create_model_from_pretrained(f"local-dir:{model}")
    dtype = getattr(torch, compute)
    net.eval().to(dtype)
    images = Prepared(paths, transform, 224 if reduced else 0)
    finished, vectors = list[tuple[float, int]](), list[NDArray[np.float16]]()
    with torch.inference_mode():
        for pixels in WAYS[way](images, batch, workers):
            found = torch.nn.functional.normalize(net.encode_image(pixels.to(dtype)).float(), dim=1)
            vectors.append(found.half().numpy())
            finished.append((time.perf_counter(), len(found)))
    return finished, np.concatenate(vectors)
