"""Retrieval on the held-out images while training goes on, by level and over all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.recipe.finetune import Finetune
from engine.schema import LEVELS
from engine.training.loader import Loader
from engine.training.method import Method, Outputs
from engine.training.pairs_file import Pairs
from engine.training.world import World

#: Captions that are compared with all images at once.
_BLOCK = 256
#: Recalls that are told.
_AT = (1, 5)


@dataclass(frozen=True)
class Level:
    """The held-out captions of one level.

    Attributes:
        name: one of `LEVELS`, or `original`.
        number: of the level, as in `Targets`.
        captions: (m,), the texts.
        owners: (m,), each caption's row among the held-out images.
    """

    name: str
    number: int
    captions: list[str]
    owners: NDArray[np.int64]


class Validator:
    """Compares held-out captions with held-out images; the workers share the work.

    Args:
        pairs: all of the run's.
        loader: reads and prepares the images.
        settings: the recipe's section.
        world: the workers.
    """

    def __init__(self, pairs: Pairs, loader: Loader, settings: Finetune, world: World) -> None:
        self._loader, self._settings, self._world = loader, settings, world
        chosen = pairs.validation(settings.data.validation_images)
        self.images = np.unique(pairs.image[chosen]).astype(np.int64)
        self.levels = list(_levels(pairs, chosen, self.images))

    @torch.no_grad()
    def scores(self, method: Method) -> dict[str, float]:
        """Recalls in 0 to 1: `t2i R@1`, `i2t R@1` and so on over all levels, and `LEVEL/t2i R@1` of each.

        A caption finds its image among the images, an image finds one of its captions of that
        level among these captions; over all levels it is the mean over all these questions.
        Equal similarities, and those that are no number, count against the model.
        """
        hits: dict[str, Tensor] = {}
        numbers = [level.number for level in self.levels]
        seen = self._images(method, numbers if self._settings.method == "prefix" else numbers[:1])
        for level in self.levels:
            images = seen.get(level.number, seen[numbers[0]])
            texts = self._texts(method, level.captions)
            ranks = _ranks(method, images, texts, torch.from_numpy(level.owners).to(self._world.device))
            for way, found in zip(("t2i", "i2t"), ranks, strict=True):
                for at in _AT:
                    hits[f"{level.name}/{way} R@{at}"] = (found <= at).double()
        means = {name: float(found.mean()) for name, found in hits.items()}
        for way in ("t2i", "i2t"):
            for at in _AT:
                of = [found for name, found in hits.items() if name.endswith(f"/{way} R@{at}")]
                means[f"{way} R@{at}"] = float(torch.cat(of).mean())
        return means

    def _images(self, method: Method, levels: list[int]) -> dict[int, Outputs]:
        """Of all held-out images, seen at each level; unreadable ones are no numbers, and find nothing."""
        mine = self._world.rows(len(self.images))
        made: dict[int, list[Outputs]] = {level: [] for level in levels}
        for pixels, good in self._loader.prepared_images(self.images[_some(mine)]):
            there = pixels.to(self._world.device)
            blank = ~good.to(self._world.device)
            for level in levels:
                said = method.image_side(there, torch.full((len(there),), level, device=self._world.device))
                for value in said.values():
                    value[blank] = torch.nan if value.is_floating_point() else 0
                made[level].append(said)
        return {level: self._gathered(each, mine, len(self.images)) for level, each in made.items()}

    def _texts(self, method: Method, captions: list[str]) -> Outputs:
        mine, made = self._world.rows(len(captions)), list[Outputs]()
        here = captions[_some(mine)]
        for start in range(0, len(here), self._settings.micro_batch):
            some = here[start : start + self._settings.micro_batch]
            made.append(method.text_side(method.backbone.tokenize(some).to(self._world.device)))
        return self._gathered(made, mine, len(captions))

    def _gathered(self, made: list[Outputs], rows: slice, count: int) -> Outputs:
        joined = {key: torch.cat([each[key].float() for each in made]) for key in made[0]}
        own = rows.stop - rows.start
        return {key: self._world.gather(value[:own], rows, count) for key, value in joined.items()}


def score(scores: dict[str, float]) -> float:
    """What decides which checkpoint is the best: the mean of R@1 and R@5 both ways."""
    return sum(scores[f"{way} R@{at}"] for way in ("t2i", "i2t") for at in _AT) / 4


def _some(rows: slice) -> slice:
    """The rows, or one of them where a worker has none: all workers must know the outputs' shapes."""
    return rows if rows.stop > rows.start else slice(0, 1)


def _levels(pairs: Pairs, chosen: NDArray[np.int64], images: NDArray[np.int64]) -> Iterator[Level]:
    for number in np.unique(pairs.level[chosen]).tolist():
        of = chosen[pairs.level[chosen] == number]
        owners = np.searchsorted(images, pairs.image[of])
        name = LEVELS[number] if number >= 0 else "original"
        yield Level(name, number, pairs.captions.take(pa.array(of)).to_pylist(), owners)


def _ranks(method: Method, images: Outputs, texts: Outputs, owners: Tensor) -> tuple[Tensor, Tensor]:
    """1-based ranks: of each caption's image, and of each image's best caption (where it has one)."""
    size = len(next(iter(images.values())))
    of_images = torch.empty_like(owners)
    own = torch.full((size,), -torch.inf, device=owners.device)
    for similarity, block in _blocks(method, images, texts, len(owners)):
        mine = similarity.gather(0, owners[block][None])[0]
        of_images[block] = (similarity >= mine).sum(dim=0)
        own.scatter_reduce_(0, owners[block], mine, "amax")
    ahead = torch.zeros_like(own, dtype=torch.int64)
    for similarity, _ in _blocks(method, images, texts, len(owners)):
        ahead += (similarity >= own[:, None]).sum(dim=1)
    return of_images, ahead[torch.unique(owners)]


def _blocks(method: Method, images: Outputs, texts: Outputs, count: int) -> Iterator[tuple[Tensor, slice]]:
    for start in range(0, count, _BLOCK):
        block = slice(start, start + _BLOCK)
        found = method.similarity(images, {key: value[block] for key, value in texts.items()})
        yield torch.nan_to_num(found, nan=-torch.inf), block
