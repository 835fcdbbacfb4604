"""What is claimed of scenes: true as often as false, and rightly called so."""

import numpy as np
import pytest

from engine.terrarium.claims import claim, evokes, holds, judged
from engine.terrarium.grammar import captions, description, literal
from engine.terrarium.lexicon import LEVELS, valid_associations
from engine.terrarium.world import COLOURS, KINDS, scene

SCENES = [scene(11, index) for index in range(200)]
OTHER = {"top": "bottom", "bottom": "top"}
TRIO = next(one for one in SCENES if len(one.elements) == 3 and one.ground == "snow")


def test_what_a_scene_is_said_to_be_holds() -> None:
    rng = np.random.default_rng(0)
    for one in SCENES:
        assert all(holds(description(one), one)) and all(holds(literal(one, rng), one))


def test_wrong_words_are_seen() -> None:
    first = TRIO.elements[0]
    other = next(hue for hue in COLOURS if hue not in {item.colour for item in TRIO.elements})
    absent = next(kind for kind in KINDS if kind not in TRIO.kinds)
    row, column = first.position.split()
    for text, wrong in (
        (description(TRIO).replace("snow", "desert"), {"desert"}),
        (f"a {other} {first.kind} in the snow", {other}),
        (f"a {first.colour} {absent} in the snow", {absent}),
        (f"a {other} {absent} in the sea", {other, absent, "sea"}),
        (
            f"a {first.colour} {first.kind} {'top' if row == 'bottom' else 'bottom'} {column}",
            {"top", "bottom"},
        ),
    ):
        found = holds(text, TRIO)
        said = {word for word, right in zip(text.replace(",", "").split(), found, strict=True) if not right}
        assert said and said <= wrong, text


def test_captions_of_a_scene_are_evoked_by_it_and_at_their_level_only() -> None:
    for one in SCENES[:50]:
        for kind in one.kinds:
            for level in LEVELS:
                word = min(valid_associations(one, kind, level))
                for text in captions(one, kind, level, word):
                    assert all(evokes(text, one, level))
                    assert not evokes(text, one, next(other for other in LEVELS if other != level))[-1]
                    at = text.split().index(word)
                    strange = evokes(text.replace(word, "nonsense"), one, level)
                    assert strange == [True] * at + [False]
                    assert not evokes(text.rpartition(" ")[0], one, level)[-1], "half a caption is none"


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_half_of_the_claims_are_true(level: str | None) -> None:
    rng = np.random.default_rng(2)
    made = [(one, claim(one, rng, level)) for one in SCENES for _ in range(4)]
    assert 0.42 < np.mean([said.true for _, said in made]) < 0.58
    for one, said in made:
        assert said == judged(said.text, one, level)
        assert level is None or said.right == [True] * len(said.right) or not said.right[-1]
