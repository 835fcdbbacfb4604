"""Recalls on held-out pairs against a full sort, by level, on one worker's share and on all."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from engine.training.method import Method, Outputs
from engine.training.validation import Validator, score
from engine.training.world import World

WIDTH = 6


class Fixed(Method):
    """Gives every image and caption the vector it is told."""

    def __init__(self, images: torch.Tensor, texts: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.images, self.texts = images, texts
        self.backbone: Any = SimpleNamespace(tokenize=self._tokenize)

    def _tokenize(self, captions: list[str]) -> torch.Tensor:
        return torch.stack([self.texts[caption] for caption in captions])

    def image_side(self, pixels: torch.Tensor, levels: torch.Tensor) -> Outputs:
        return {"features": self.images[pixels[:, 0].long() - 1] + 0.2 * levels[:, None]}

    def text_side(self, tokens: torch.Tensor) -> Outputs:
        return {"features": tokens}

    def similarity(self, images: Outputs, texts: Outputs) -> torch.Tensor:
        return images["features"] @ texts["features"].T


class Reading:
    """Stands for the loader: a picture is its image's number, from 1; black ones and unread ones are 0."""

    unread: tuple[int, ...] = ()
    black: tuple[int, ...] = ()

    def prepared_images(self, rows: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(rows), 3):
            some = rows[start : start + 3]
            zero = np.isin(some, self.unread + self.black)
            pixels = torch.from_numpy(np.where(zero, 0, some + 1)[:, None]).float()
            yield pixels, torch.from_numpy(~np.isin(some, self.unread))


def made(method: str = "full", seed: int = 0) -> tuple[Fixed, Validator, Any]:
    random = np.random.default_rng(seed)
    images, count = 7, 25
    image = np.sort(random.integers(0, images, count)).astype(np.int32)
    level = random.integers(-1, 2, count).astype(np.int8)
    captions = [f"caption {index}" for index in range(count)]
    pairs = SimpleNamespace(
        image=image,
        level=level,
        captions=pa.array(captions, pa.large_string()),
        validation=lambda limit: np.flatnonzero(image < min(limit, images - 1)),
    )
    torch.manual_seed(seed)
    vectors = torch.randn(images, WIDTH)
    texts = {text: vectors[i] + torch.randn(WIDTH) for text, i in zip(captions, image, strict=True)}
    settings: Any = SimpleNamespace(
        method=method, micro_batch=4, data=SimpleNamespace(validation_images=images)
    )
    reading: Any = Reading()
    return Fixed(vectors, texts), Validator(pairs, reading, settings, World()), pairs  # type: ignore[arg-type]


def by_sorting(method: Fixed, pairs: Any, by_level: bool) -> dict[str, float]:
    chosen = pairs.validation(7)
    hits: dict[str, list[bool]] = {}
    held = np.unique(pairs.image[chosen])
    for number, name in ((-1, "original"), (0, "synonym"), (1, "broader")):
        of = chosen[pairs.level[chosen] == number]
        shift = 0.2 * number if by_level else 0.2 * -1
        views = method.images[torch.from_numpy(held).long()] + shift
        texts = torch.stack([method.texts[pairs.captions[int(i)].as_py()] for i in of])
        table = (views @ texts.T).numpy()
        for column, i in enumerate(of):
            order = list(np.argsort(-table[:, column]))
            rank = order.index(int(np.flatnonzero(held == pairs.image[i])[0])) + 1
            for at in (1, 5):
                hits.setdefault(f"{name}/t2i R@{at}", []).append(rank <= at)
        for row, number_of_image in enumerate(held):
            own = pairs.image[of] == number_of_image
            if own.any():
                rank = int(np.flatnonzero(own[np.argsort(-table[row])])[0]) + 1
                for at in (1, 5):
                    hits.setdefault(f"{name}/i2t R@{at}", []).append(rank <= at)
    means = {name: float(np.mean(found)) for name, found in hits.items()}
    for way in ("t2i", "i2t"):
        for at in (1, 5):
            joined = [hit for name, found in hits.items() if name.endswith(f"/{way} R@{at}") for hit in found]
            means[f"{way} R@{at}"] = float(np.mean(joined))
    return means


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", ["full", "prefix"])
def test_recalls_are_those_of_a_full_sort(method: str, seed: int) -> None:
    fixed, validator, pairs = made(method, seed)
    assert validator.scores(fixed) == pytest.approx(by_sorting(fixed, pairs, method == "prefix"))


def test_ties_and_what_is_no_number_count_against_the_model() -> None:
    for value in (0.0, float("nan")):
        fixed, validator, _ = made()
        fixed.images[:] = value
        assert validator.scores(fixed)["t2i R@1"] == 0


def test_images_that_cannot_be_read_find_nothing() -> None:
    fixed, validator, _ = made()
    reading: Any = validator._loader
    reading.unread = tuple(range(7))
    assert set(validator.scores(fixed).values()) == {0.0}
    reading.unread = (5,)
    fixed.images[-1] = torch.stack(list(fixed.texts.values())).sum(dim=0)  # what zeros look like: all find it
    found = validator.scores(fixed)
    fixed.images[5] = torch.nan  # it is found by none
    reading.unread = ()
    assert found == validator.scores(fixed)


def test_a_picture_that_is_prepared_as_zeros_is_a_picture() -> None:
    fixed, validator, _ = made()
    reading: Any = validator._loader
    fixed.images[-1] = fixed.images[5]  # what zeros look like
    wanted = validator.scores(fixed)
    reading.black = (5,)
    assert validator.scores(fixed) == wanted
    reading.black, reading.unread = (), (5,)
    assert validator.scores(fixed) != wanted


def test_the_score_is_the_mean_of_both_ways() -> None:
    assert score(
        {"t2i R@1": 0.1, "t2i R@5": 0.3, "i2t R@1": 0.2, "i2t R@5": 0.6, "x/t2i R@1": 9}
    ) == pytest.approx(0.3)
