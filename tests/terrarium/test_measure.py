"""Ranks of held-out texts: against whole matrices, at the right levels, with and without seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.terrarium.held_out import TextSet, held_out_scenes, text_sets
from engine.terrarium.lexicon import LEVELS
from engine.terrarium.measure import (
    COLUMNS,
    Hits,
    SetRanks,
    hits,
    level_of,
    measure,
    measure_knower,
    over_seeds,
)
from engine.training.method import Method, Outputs
from engine.training.methods.prefix import Prefix

torch.set_num_threads(1)
SCENES = held_out_scenes(30)
SETS = text_sets(SCENES)


class Backbone(nn.Module):
    image_token_width = 4

    def places(self, method: str) -> None: ...

    def tokenize(self, texts: list[str]) -> Tensor:
        return torch.tensor([[len(text), sum(map(ord, text)) % 97, 1] for text in texts])


class Flat(Method):
    """Compares by something that no product gives; notes the levels that it was shown images at."""

    def __init__(self) -> None:
        nn.Module.__init__(self)  # not Prefix's, of the class below
        self.backbone, self.levels = Backbone(), list[int]()  # type: ignore[assignment]

    def image_side(self, pixels: Tensor, levels: Tensor) -> Outputs:
        self.levels += levels.tolist()
        return {"a": pixels.flatten(1).float(), "level": levels}

    def text_side(self, tokens: Tensor) -> Outputs:
        return {"b": tokens.float()}

    def similarity(self, images: Outputs, texts: Outputs) -> Tensor:
        return -torch.cdist(images["a"], texts["b"])


class Levelled(Flat, Prefix):
    """Is taken for `prefix`."""


def whole(method: Flat, pixels: Tensor, one: TextSet) -> Tensor:
    tokens = method.backbone.tokenize(list(one.texts))
    level = torch.zeros(len(pixels), dtype=torch.int64)
    return method.similarity(method.image_side(pixels, level), method.text_side(tokens))


def test_ranks_are_those_of_the_whole_matrix() -> None:
    pixels = torch.randn(30, 3, 1, 1) * 40 + 40
    found = measure(Flat(), pixels, SETS)
    assert list(found) == [one.name for one in SETS]
    for one in SETS:
        scores = whole(Flat(), pixels, one).numpy()
        ranked = found[one.name]
        for number, scene in enumerate(one.scenes.tolist()):
            own = scores[scene, number]
            assert ranked.text_to_image[number] == (scores[:, number] >= own).sum()
            # Texts of the same scene that are equal are the only ones that an equal text may precede.
            least, most = (scores[scene] > own).sum() + 1, (scores[scene] >= own).sum()
            assert least <= ranked.image_to_text[number] <= most


def test_levels_of_prefix() -> None:
    method = Levelled()
    measure(method, torch.zeros(30, 3, 1, 1), SETS)
    assert method.levels == [level for level in (-1, 0, 1, 2, 3, 4) for _ in SCENES]
    plain = Flat()
    measure(plain, torch.zeros(30, 3, 1, 1), SETS)
    assert plain.levels == [-1] * 30
    assert [level_of(name) for name in ("literal", *LEVELS, "poems", "metaphors")] == [
        -1,
        0,
        1,
        2,
        3,
        4,
        4,
        4,
    ]


def test_hits_of_both_ways() -> None:
    # Scene 0 has texts at ranks 4 and 2, scene 3 one at rank 7.
    one = SetRanks(np.array([0, 0, 3]), np.array([1, 9, 5]), np.array([4, 2, 7]))
    found = hits({"poems": one}, "poems", "t2i", 5)
    assert (found.values.tolist(), found.scenes.tolist()) == ([1, 0, 1], [0, 0, 3])
    found = hits({"poems": one}, "poems", "i2t", 2)
    assert (found.values.tolist(), found.scenes.tolist()) == ([1, 0], [0, 3])


def test_abstract_are_the_questions_of_the_last_two_levels() -> None:
    assert COLUMNS["abstract"] == ("concept", "metaphor")
    a = SetRanks(np.array([0]), np.array([1]), np.array([1]))
    b = SetRanks(np.array([1, 2]), np.array([9, 1]), np.array([9, 9]))
    found = hits({"concept": a, "metaphor": b}, "abstract", "t2i", 1)
    assert (found.values.tolist(), found.scenes.tolist()) == ([1, 0, 1], [0, 1, 2])


def test_seeds_are_averaged_question_by_question() -> None:
    scenes = np.array([0, 1])
    found = over_seeds([Hits(np.array([1.0, 0.0]), scenes), Hits(np.array([1.0, 1.0]), scenes)])
    assert found.values.tolist() == [1.0, 0.5] and found.scenes is scenes


def test_the_knower_answers_most() -> None:
    found = measure_knower(SCENES, SETS)
    assert hits(found, "literal", "t2i", 1).values.mean() > 0.9
    assert hits(found, "poems", "t2i", 5).values.mean() > 0.95
    again = measure_knower(SCENES, SETS)
    assert all(np.array_equal(found[name].text_to_image, again[name].text_to_image) for name in found)


def test_no_number_names_the_image() -> None:
    pixels = torch.zeros(30, 3, 1, 1)
    pixels[7] = torch.nan
    with pytest.raises(ValueError, match="image 7 and text 0 is no number"):
        measure(Flat(), pixels, SETS[:1])
