"""The stages' checks against the terrarium's lexicon: no right answer may be refused."""

from itertools import product

import pytest

from engine.schema import LEVELS
from engine.stages.words import clean, repeats
from engine.terrarium.lexicon import valid_associations
from engine.terrarium.world import GROUNDS, KINDS, LIGHTS, Scene


@pytest.mark.parametrize("kind", KINDS)
def test_no_valid_association_repeats_its_kind(kind: str) -> None:
    words = set()
    for ground, light, level in product(GROUNDS, LIGHTS, LEVELS):
        words |= valid_associations(Scene(0, 0, (), ground, light, 0), kind, level)
    assert len(words) > len(LEVELS)
    assert not [word for word in words if repeats(word, kind) or clean(word) != word]
