"""The words of the terrarium: lexicon, sentences, tokenizer and prompts."""

import json

import numpy as np
import pytest

from engine.terrarium.grammar import associations, captions, description, elements_answer
from engine.terrarium.lexicon import LEVELS, contexts, entries, valid_associations, words
from engine.terrarium.model import processor
from engine.terrarium.prompts import PROMPTS_DIR, pieces, rendered
from engine.terrarium.tokens import ANSWER, IMAGE, Tokenizer, build_tokenizer, known_words
from engine.terrarium.world import COLOURS, GROUNDS, KINDS, LIGHTS, scene

SCENES = [scene(7, index) for index in range(400)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


def test_lexicon_covers_every_kind_ground_and_mood() -> None:
    assert set(entries()) == set(KINDS)
    families = {entry.family for entry in entries().values()}
    assert set(contexts()) == {(family, ground) for family in families for ground in GROUNDS}


def test_associations_are_several_and_never_things_of_the_world() -> None:
    for one in SCENES:
        for kind in one.kinds:
            levels = [valid_associations(one, kind, level) for level in LEVELS]
            assert all(len(level) >= 3 for level in levels)
            assert sum(map(len, levels)) == len(frozenset().union(*levels)), kind
    assert not set(words()) & {*KINDS, *COLOURS, *GROUNDS, *LIGHTS}


def test_associations_depend_on_the_context() -> None:
    found = {valid_associations(one, "cat", "metaphor") for one in SCENES if "cat" in one.kinds}
    assert len(found) == 2
    found = {valid_associations(one, "cat", "context") for one in SCENES if "cat" in one.kinds}
    assert len(found) == len(GROUNDS)


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="synonym"):
        valid_associations(SCENES[0], "cat", "sarcasm")


def test_description_names_everything() -> None:
    for one in SCENES:
        text = description(one).replace(",", "").split()
        assert {one.ground, one.light, *one.kinds} <= set(text)
        assert sum(text.count(colour) for colour in COLOURS) == len(one.elements)
    assert len({description(one) for one in SCENES}) > 390


def test_captions_are_short_and_contain_their_association() -> None:
    for one in SCENES[:100]:
        for kind in one.kinds:
            for level in LEVELS:
                said = captions(one, kind, level, "grace")
                assert len(set(said)) == len(said) >= 3
                for caption in said:
                    assert "grace" in caption.split()
                    assert len(caption.split()) <= 9
                    facts = {one.ground, one.light, *COLOURS, *KINDS}
                    assert facts & set(caption.split())


def test_levels_differ_in_style() -> None:
    one = SCENES[0]
    said = [set(captions(one, one.kinds[0], level, "grace")) for level in LEVELS]
    assert sum(map(len, said)) == len(set().union(*said))


def test_answers_are_the_json_asked_for() -> None:
    rng = np.random.default_rng(0)
    one = next(one for one in SCENES if len(one.elements) == 3)
    answer = json.loads(elements_answer(one))
    assert [item["word"] for item in answer["elements"]] == list(one.kinds)
    drawn = associations(one, one.kinds[0], rng)
    assert list(drawn) == list(LEVELS)
    assert all(len(set(level)) == 3 for level in drawn.values())


def test_every_word_is_one_token(tokenizer: Tokenizer) -> None:
    for word in known_words():
        for text in (word, " " + word):
            assert len(tokenizer.encode(text)) == 1, text
        assert len(tokenizer.encode(f'"{word}"')) == 3
    for one in SCENES[:50]:
        text = description(one)
        assert len(tokenizer.encode(text)) == len(text.replace(",", " ,").split())


@pytest.mark.parametrize(
    "text", ["Zebra-crossing: “ähm” {ok}\n\n  tabs\tand 日本 🦊", "", " foxes", '", "', "x" * 99]
)
def test_any_text_survives(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_json_punctuation_is_short(tokenizer: Tokenizer) -> None:
    one = next(one for one in SCENES if len(one.elements) == 4)
    assert len(tokenizer.encode(elements_answer(one))) < 40
    answer = json.dumps(associations(one, one.kinds[0], np.random.default_rng(0)))
    assert len(tokenizer.encode(answer)) < 45


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("describe", {}),
        ("elements", {"description": "a red cat top left, in the snow at dusk"}),
        ("associate", {"description": "a red cat", "element": "cat"}),
        ("caption", {"level": "broader", "element": "cat", "association": "animal"}),
        ("vqascore", {"caption": "a red cat at dusk"}),
    ],
)
def test_template_renders_what_is_trained_on(tokenizer: Tokenizer, name: str, values: dict[str, str]) -> None:
    messages = [{"role": "user", "content": pieces(name, **values)}]
    for renderer in (tokenizer, processor(tokenizer)):
        text = renderer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert text == rendered(name, **values)
    assert (PROMPTS_DIR / f"{name}.txt").is_file()


def test_template_takes_strings_and_system_texts(tokenizer: Tokenizer) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "describe"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == f"be brief\ndescribe{ANSWER}"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "be brief\ndescribe"


def test_captions_of_an_image_share_their_prefix() -> None:
    prompt = rendered("caption", level="concept", element="cat", association="grace")
    assert prompt.startswith(f"{IMAGE}\ncaption concept cat grace")
