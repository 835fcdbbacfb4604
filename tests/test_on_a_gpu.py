"""What is computed on a GPU is what processors compute: to the last bit where that is promised."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.difficulty.histogram import Histogram
from engine.encoders import EncoderName, load_encoder
from engine.neighbours import nearest
from engine.polysemy.sampling import farthest_points
from engine.retrieval.cosines import Cosines
from engine.retrieval.ranks import Matches, ranks
from engine.terrarium import scene
from engine.terrarium.grammar import description
from engine.terrarium.render import image

GPU: Final = "cuda"

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _there_is_one() -> None:
    if GPU == "cuda" and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")


def units(rows: int, width: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_ranks_are_the_same_to_the_last_one() -> None:
    images, texts = units(700, 256, 0), units(2100, 256, 1)
    texts[::7] = texts[3]  # equal items, whose order is decided by a rule and not by rounding
    matches = Matches(np.arange(2100) % 700, np.arange(2100))
    here, there = (ranks(Cosines(images, texts, device), matches, 700, 2100) for device in ("cpu", GPU))
    np.testing.assert_array_equal(here.image_to_text, there.image_to_text)
    np.testing.assert_array_equal(here.text_to_image, there.text_to_image)


def test_similarities_are_counted_into_the_same_bins() -> None:
    images, texts = units(1024, 128, 2), units(1024, 128, 3)
    every = slice(0, 1024)
    here, there = (
        Histogram.of_batch(Cosines(images, texts, device)(every, every)) for device in ("cpu", GPU)
    )
    np.testing.assert_array_equal(here.matching, there.matching)
    np.testing.assert_array_equal(here.others, there.others)


def test_points_are_chosen_in_the_same_order() -> None:
    points = np.random.default_rng(5).normal(size=(3000, 2)).astype(np.float32)
    points[1000:1500] = points[:500]  # equal distances, of which the lower row is taken
    here, there = (farthest_points(points, 400, device) for device in ("cpu", GPU))
    np.testing.assert_array_equal(here.rows, there.rows)
    np.testing.assert_array_equal(here.distances, there.distances)


def test_neighbours_are_the_same_and_in_the_same_order() -> None:
    gallery = units(9000, 96, 4)
    gallery[4000:4500] = gallery[:500]
    here, there = (nearest(gallery[:300], gallery, 50, device=device) for device in ("cpu", GPU))
    np.testing.assert_array_equal(here.rows, there.rows)
    np.testing.assert_allclose(here.scores, there.scores, atol=1e-6)


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.9999), ("float16", 0.999), ("bfloat16", 0.99)])
def test_an_encoder_gives_the_same_vectors(dtype: str, least: float) -> None:
    scenes = [scene(21, number) for number in range(16)]
    name = EncoderName.parse("open_clip:terrarium")
    here, there = load_encoder(name, "cpu", "float32"), load_encoder(name, GPU, dtype)
    for vectors in zip(*(embedded(each, scenes) for each in (here, there)), strict=True):
        cosines = (vectors[0] * vectors[1]).sum(axis=1)
        assert cosines.min() > least


def embedded(encoder: Any, scenes: list[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    pictures = [encoder.prepare(image(one)) for one in scenes]
    return encoder.embed_images(pictures), encoder.embed_texts([description(one) for one in scenes])
