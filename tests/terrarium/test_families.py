"""The families of scenes, and that the free scenes stayed as they were before there were any."""

import hashlib
import itertools
from collections import Counter

import pytest

from engine.terrarium.families import FAMILIES, Family, family_scene
from engine.terrarium.world import COLOURS, GROUNDS, KINDS, LIGHTS, scene

# Of the code that drew the scenes the shipped models were trained on.
_DIGEST = "9a814a1d264194c632096c92a982a0bd545c4f1ae5fa3a5ba6ac40f663faf595"


def test_free_scenes_are_those_of_the_training() -> None:
    digest = hashlib.sha256()
    for index in range(200):
        digest.update(repr(scene(index % 5, index)).encode())
    assert digest.hexdigest() == _DIGEST


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_family_is_made_of_the_world(family: Family) -> None:
    assert family.ground in GROUNDS
    assert family.light in LIGHTS
    assert 5 <= len(set(family.kinds)) == len(family.kinds) <= 7
    assert set(family.kinds) <= set(KINDS)


def test_families_are_told_apart() -> None:
    assert len(FAMILIES) == 12
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for one, other in itertools.combinations(FAMILIES, 2):
        assert (one.ground, one.light) != (other.ground, other.light)
        assert len(set(one.kinds) & set(other.kinds)) <= 3


def test_every_kind_has_a_family() -> None:
    assert {kind for family in FAMILIES for kind in family.kinds} == set(KINDS)


def test_family_scene_is_a_function_of_seed_and_index() -> None:
    assert family_scene(3, 4) == family_scene(3, 4)
    assert len({family_scene(seed, index)[1] for seed in range(5) for index in range(20)}) == 100


def test_scenes_keep_to_their_family() -> None:
    for index in range(500):
        family, one = family_scene(1, index)
        assert (one.seed, one.index) == (1, index)
        assert 2 <= len(one.elements) <= 4
        assert len(set(one.kinds)) == len(one.kinds)
        assert set(one.kinds) <= set(family.kinds)
        assert one.ground == family.ground
        assert one.light == family.light
        cells = [(item.row, item.column) for item in one.elements]
        assert cells == sorted(set(cells))


def test_everything_a_family_has_occurs() -> None:
    many = [family_scene(1, index) for index in range(500)]
    counts = Counter(family for family, _ in many)
    assert set(counts) == set(FAMILIES)
    assert min(counts.values()) > 20
    for family in FAMILIES:
        own = [one for other, one in many if other == family]
        assert {kind for one in own for kind in one.kinds} == set(family.kinds)
    assert {item.colour for _, one in many for item in one.elements} == set(COLOURS)
    assert {len(one.elements) for _, one in many} == {2, 3, 4}


def test_family_does_not_go_by_the_index() -> None:
    assert len({family_scene(seed, 0)[0] for seed in range(200)}) == len(FAMILIES)
    assert len({family_scene(1, index)[0] for index in range(0, 200 * len(FAMILIES), len(FAMILIES))}) == 12
