"""The held-out texts: each is true of its scene, belongs to it alone, and can be found by a knower."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from engine.terrarium import LEVELS, captions, description, scene, valid_associations
from engine.terrarium.held_out import SEED, TextSet, held_out_scenes, knower, text_sets
from engine.terrarium.world import COLOURS, KINDS, TRAINING_SEED, Scene

SCENES = held_out_scenes(120)
SETS = {each.name: each for each in text_sets(SCENES)}


def found(one: TextSet, scenes: list[Scene], k: int) -> float:
    """Share of the texts whose scene a knower has among the first k; equal scenes count against it."""
    scores = knower(scenes, one.texts)
    own = scores[one.scenes, np.arange(len(one.texts))]
    return float(((scores >= own).sum(axis=0) <= k).mean())


def test_sets_and_their_order() -> None:
    assert list(SETS) == ["literal", *LEVELS, "poems", "metaphors"]
    for each in SETS.values():
        assert len(each.texts) == len(each.scenes) == len(set(each.texts))
        assert each.scenes.dtype == np.int64 and 0 <= each.scenes.min() <= each.scenes.max() < len(SCENES)


def test_scenes_are_neither_trained_on_nor_mined() -> None:
    # The seeds that scores, benchmarks and demo use; write_shards refuses those of the training.
    assert SEED < TRAINING_SEED and SEED not in (0, 7, 97, 500_000)
    assert SCENES[3] == scene(SEED, 3)


def test_most_scenes_have_all_their_texts() -> None:
    elements = sum(len(one.kinds) for one in SCENES)
    wanted = {"literal": 2 * len(SCENES), "poems": 2 * len(SCENES)}
    for name, each in SETS.items():
        assert 0.97 * wanted.get(name, elements) <= len(each.texts) <= wanted.get(name, elements)


@pytest.mark.parametrize("level", LEVELS)
def test_captions_are_true_at_their_level(level: str) -> None:
    each = SETS[level]
    for text, number in zip(each.texts, each.scenes.tolist(), strict=True):
        one = SCENES[number]
        assert any(
            text in captions(one, kind, level, word)
            for kind in one.kinds
            for word in valid_associations(one, kind, level)
        )


def test_literal_captions_are_true() -> None:
    each = SETS["literal"]
    assert {description(one) for one in SCENES} <= set(each.texts)
    for text, number in zip(each.texts, each.scenes.tolist(), strict=True):
        one, words = SCENES[number], text.replace(",", "").split()
        named = [f"{a} {b}" for a, b in itertools.pairwise(words) if a in COLOURS and b in KINDS]
        assert named and set(named) <= {f"{item.colour} {item.kind}" for item in one.elements}


def test_what_is_drawn_depends_on_the_scenes_before_only() -> None:
    again = text_sets(SCENES[:40])
    for few, many in zip(again, SETS.values(), strict=True):
        assert few.texts == many.texts[: len(few.texts)]
        np.testing.assert_array_equal(few.scenes, many.scenes[: len(few.texts)])
    other = text_sets(SCENES[:40], seed=1)
    assert other[1].texts != again[1].texts


def test_a_text_belongs_to_one_scene() -> None:
    twice = text_sets([SCENES[0], dataclasses.replace(SCENES[0], index=10**6)])
    literal = twice[0]
    assert literal.texts.count(description(SCENES[0])) == 1
    assert all(len(set(each.texts)) == len(each.texts) for each in twice)


def test_a_knower_counts_what_is_true() -> None:
    one = next(each for each in SCENES if len(each.kinds) == 1)
    item, other = one.elements[0], next(each for each in COLOURS if each != one.elements[0].colour)
    word = min(valid_associations(one, item.kind, "metaphor"))
    texts = [f"the {item.colour} {item.kind}", f"the {other} {item.kind}", f"{word} , {one.light}", "nothing"]
    assert np.floor(knower([one], texts)).tolist() == [[3, 1, 2, 0]]


def test_a_knower_finds_what_can_be_found() -> None:
    assert found(SETS["literal"], SCENES, 5) > 0.98
    assert min(found(SETS[level], SCENES, 5) for level in ("concept", "metaphor")) > 0.95
    assert found(SETS["poems"], SCENES, 5) > 0.95
    assert found(SETS["metaphors"], SCENES, 5) > 0.8
