"""Poems and metaphors: what they say of a scene, and that they say it in no caption's way."""

from __future__ import annotations

import re

import numpy as np
import pytest

from engine.terrarium import COLOURS, GROUNDS, KINDS, LIGHTS, Scene, captions, scene, valid_associations
from engine.terrarium.clip import tokenizer
from engine.terrarium.grammar import vocabulary
from engine.terrarium.lexicon import words
from engine.terrarium.verses import metaphor, poem, templates
from engine.terrarium.world import COLUMNS, ROWS

SCENES = [scene(12, number) for number in range(300)]
WORDS = frozenset(words())
SEEN = {*KINDS, *COLOURS, *GROUNDS, *LIGHTS}
#: What any two English sentences share.
SMALL = {"a", "an", "and", "the", "of", "in", "on", "at", "for", "with", "one"}


def rng(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


def said(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def frame(line: str) -> set[str]:
    """The words of a template that stay."""
    return set(said(re.sub(r"\{\w+\}", " ", line)))


def evoked(one: Scene, level: str) -> set[str]:
    return set[str]().union(*(valid_associations(one, kind, level) for kind in one.kinds))


def true(one: Scene) -> set[str]:
    return {one.ground, one.light, *one.kinds, *(item.colour for item in one.elements)}


def test_templates_say_nothing_of_a_scene_by_themselves() -> None:
    spoken = {*WORDS, *SEEN, *ROWS, *COLUMNS}
    for line in templates():
        assert not frame(line) & spoken, line


def test_templates_are_not_those_of_captions() -> None:
    used = set[str]().union(*(frame(line) for line in templates()))
    assert used & set(vocabulary()) <= SMALL


@pytest.mark.parametrize("number", range(0, 300, 7))
def test_a_poem_says_what_its_scene_evokes_and_one_thing_that_is_seen(number: int) -> None:
    one = SCENES[number]
    first, *lines = poem(one, rng(number)).split("\n")
    assert len(lines) == 3
    seen = [word for word in said(first) if word in SEEN]
    assert len(seen) == 1 and set(seen) <= true(one)
    assert not set(said(first)) & (WORDS - SEEN)
    for line in lines:
        associations = [word for word in said(line) if word in WORDS]
        assert len(associations) == 2 and not set(said(line)) & SEEN
        # Both belong to one element, one by its concepts and one by its metaphors.
        assert any(
            {associations[turn]} <= valid_associations(one, kind, "concept")
            and {associations[1 - turn]} <= valid_associations(one, kind, "metaphor")
            for kind in one.kinds
            for turn in (0, 1)
        ), line


def test_a_poem_repeats_no_word_that_it_need_not() -> None:
    for number, one in enumerate(SCENES):
        lines = poem(one, rng(number)).split("\n")[1:]
        used = [word for line in lines for word in said(line) if word in WORDS]
        choice = len(evoked(one, "concept") | evoked(one, "metaphor"))
        assert len(used) == 6 and (len(set(used)) == 6 or choice < 6), lines


def test_a_poem_speaks_of_up_to_three_elements() -> None:
    # Words that belong to one element of the scene only tell whom a line is about.
    one = next(each for each in SCENES if len(each.kinds) == 3)
    about = set[str]()
    for line in poem(one, rng(5)).split("\n")[1:]:
        about |= {
            kind
            for kind in one.kinds
            if all(
                word in valid_associations(one, kind, "concept") | valid_associations(one, kind, "metaphor")
                for word in said(line)
                if word in WORDS
            )
        }
    assert about == set(one.kinds)


@pytest.mark.parametrize("number", range(0, 300, 7))
def test_a_metaphor_is_of_one_element_and_names_none(number: int) -> None:
    one = SCENES[number]
    text = metaphor(one, rng(number))
    assert "\n" not in text and not set(said(text)) & set(KINDS)
    seen = [word for word in said(text) if word in SEEN]
    assert len(seen) == 1 and set(seen) <= true(one) - set(one.kinds)
    associations = [word for word in said(text) if word in WORDS and word not in SEEN]
    assert len(associations) == 2
    assert set(associations) & evoked(one, "concept") and set(associations) & evoked(one, "metaphor")


def test_none_is_a_caption() -> None:
    for number, one in enumerate(SCENES[:60]):
        known = {
            said_so
            for kind in one.kinds
            for level in ("concept", "metaphor")
            for word in valid_associations(one, kind, level)
            for said_so in captions(one, kind, level, word)
        }
        assert metaphor(one, rng(number)) not in known
        assert not known & set(poem(one, rng(number)).split("\n"))


def test_mood_decides() -> None:
    spoken = {
        mood: {word for one in SCENES if one.mood == mood for word in said(poem(one, rng(1)))} & WORDS
        for mood in ("bright", "dark")
    }
    assert {"omen", "doom"} <= spoken["dark"] - spoken["bright"]
    assert {"celebration", "joy"} <= spoken["bright"] - spoken["dark"]


def test_the_same_state_gives_the_same_text() -> None:
    for write in (poem, metaphor):
        assert [write(one, rng(3)) for one in SCENES[:20]] == [write(one, rng(3)) for one in SCENES[:20]]
        assert len({write(SCENES[0], rng(number)) for number in range(40)}) > 20


def test_clip_reads_all_of_it() -> None:
    tokens = tokenizer()
    texts = [write(one, rng(number)) for number, one in enumerate(SCENES) for write in (poem, metaphor)]
    # The last token ends the text; a text that was cut has it in the last place.
    assert (tokens(texts)[:, -1] == 0).all()
    assert all(text == text.lower() and text.isascii() for text in texts)


def test_every_template_is_used() -> None:
    texts = [write(one, rng(number)) for number, one in enumerate(SCENES) for write in (poem, metaphor)]
    lines = [line for text in texts for line in text.split("\n")]
    for template in templates():
        pattern = re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(template))
        assert any(re.fullmatch(pattern, line) for line in lines), template
