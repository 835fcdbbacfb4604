"""The scenes: the same at every call, well formed, and never those of the training."""

import numpy as np
import pytest

from engine.terrarium.render import RGB, mask, render
from engine.terrarium.vision import IGNORED, QUESTIONS, labels
from engine.terrarium.world import (
    COLOURS,
    COLUMNS,
    GROUNDS,
    KINDS,
    LIGHTS,
    MOODS,
    ROWS,
    SIDE,
    scene,
)


def test_world_is_rich_enough() -> None:
    assert len(KINDS) >= 24
    assert len(COLOURS) >= 8
    assert len(LIGHTS) >= 5
    assert len(GROUNDS) >= 6
    assert set(MOODS) == set(LIGHTS)


def test_scene_is_a_function_of_seed_and_index() -> None:
    assert scene(3, 4) == scene(3, 4)
    assert len({scene(seed, index) for seed in range(5) for index in range(20)}) == 100


def test_elements_are_distinct_ordered_and_inside() -> None:
    for index in range(300):
        one = scene(1, index)
        assert 1 <= len(one.elements) <= 4
        assert len(set(one.kinds)) == len(one.kinds)
        cells = [(item.row, item.column) for item in one.elements]
        assert cells == sorted(set(cells))
        for item in one.elements:
            assert 0 <= item.left <= SIDE - item.size
            assert 0 <= item.top <= SIDE - item.size


def test_everything_occurs() -> None:
    many = [scene(1, index) for index in range(500)]
    assert {kind for one in many for kind in one.kinds} == set(KINDS)
    assert {item.colour for one in many for item in one.elements} == set(COLOURS)
    assert {one.ground for one in many} == set(GROUNDS)
    assert {one.light for one in many} == set(LIGHTS)


def test_position_is_where_the_element_stands() -> None:
    for index in range(200):
        for item in scene(2, index, count=6).elements:
            x, y = item.left + item.size / 2, item.top + item.size / 2
            assert ROWS[y > SIDE / 2] in item.position
            assert COLUMNS[int(x * 3 / SIDE)] in item.position


def test_unknown_element_is_refused() -> None:
    one = scene(1, 0)
    absent = next(kind for kind in KINDS if kind not in one.kinds)
    with pytest.raises(KeyError):
        one.element(absent)


def test_image_is_deterministic_and_shows_its_elements() -> None:
    for index in range(50):
        one = scene(4, index, count=2)
        pixels = render(one)
        assert pixels.shape == (SIDE, SIDE, 3)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, render(one))
        for item in one.elements:
            window = pixels[item.top : item.top + item.size, item.left : item.left + item.size]
            wanted = np.array(RGB[item.colour]) * item.shade
            near = np.abs(window - wanted).max(axis=2) < 40
            assert near.mean() > 0.04, (item.kind, item.colour)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_drawn_differently(kind: str) -> None:
    place = scene(0, 0).elements[0]
    shapes = {other: mask(type(place)(other, "red", 0, 0, 0, 0, 22, 0, False, 1.0)) for other in KINDS}
    mine = shapes.pop(kind)
    assert 0.1 < mine.mean() < 0.95
    assert min(float(np.abs(mine - other).mean()) for other in shapes.values()) > 0.04


def test_patch_labels_cover_every_element() -> None:
    for index in range(50):
        one = scene(6, index)
        answers = labels(one)
        assert answers.shape == (len(QUESTIONS), 64)
        kinds = {KINDS[number - 1] for number in answers[0] if number > 0}
        assert kinds == set(one.kinds)
        assert (answers[2] == 1).sum() == len(one.elements)
        assert IGNORED not in answers[2:]
