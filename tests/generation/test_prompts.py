import re
from pathlib import Path

import pytest
from PIL import Image

from engine.errors import RecipeError
from engine.generation.prompts import load_prompt, parse_prompt
from engine.generation.protocol import Picture
from engine.recipe import Sampling
from engine.schema import LEVELS

OFFERED = {
    "describe": ((), True),
    "elements": (("description", "count"), False),
    "associate": (("description", "element", "pos", "words"), False),
    "caption": (("element", "others", "level", "association", "max_words"), True),
}
PICTURE = Picture("p", Image.new("RGB", (2, 2)))


@pytest.mark.parametrize("name", OFFERED)
def test_the_package_s_prompts_use_what_the_stages_offer(name: str) -> None:
    allowed, image = OFFERED[name]
    prompt = load_prompt(name, None, allowed, image)
    values = {key: f"<{key}>" for key in allowed}
    request = prompt.request(values, sampling=Sampling(), seed=1, picture=PICTURE if image else None)
    text = " ".join(piece for piece in request.content if isinstance(piece, str))
    assert all(f"<{key}>" in text for key in allowed), "a value that is never shown"
    assert [picture.id for picture in request.pictures] == (["p"] if image else [])
    assert request.system and "$" not in request.system + text


@pytest.mark.parametrize("name", ["associate", "caption"])
def test_the_system_text_defines_every_level_and_is_the_same_for_all(name: str) -> None:
    allowed, image = OFFERED[name]
    prompt = load_prompt(name, None, allowed, image)
    assert prompt.system is not None and not prompt.system.get_identifiers()
    for level in LEVELS:
        assert re.search(rf"^{level}: ", prompt.system.template, re.MULTILINE)


def test_captions_of_an_image_share_all_but_the_last_lines() -> None:
    prompt = load_prompt("caption", None, OFFERED["caption"][0], image=True)
    texts = []
    for element, level, association in (("dog", "context", "walk"), ("dog", "metaphor", "loyalty")):
        values = {"element": element, "others": "tree, man", "level": level, "association": association}
        request = prompt.request(values | {"max_words": "9"}, sampling=Sampling(), seed=1, picture=PICTURE)
        assert isinstance(request.content[0], Picture), "the image stands before anything that differs"
        texts.append(str(request.content[1]))
    shared = len([1 for a, b in zip(*(text.splitlines() for text in texts), strict=True) if a == b])
    assert shared == len(texts[0].splitlines()) - 2


def test_an_override_is_read_and_named_in_errors(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Be brief.\n--- user ---\n$image\nWhat is $colour here?")
    with pytest.raises(RecipeError, match=r"mine.txt.*\$colour is not filled here"):
        load_prompt("describe", str(file), (), image=True)
    with pytest.raises(RecipeError, match="cannot use"):
        load_prompt("elements", str(file), ("colour",), image=False)
    with pytest.raises(RecipeError, match=r"none\.txt"):
        load_prompt("describe", str(tmp_path / "none.txt"), (), image=True)


def test_a_prompt_without_its_divider_or_image_or_with_a_lone_dollar_is_refused() -> None:
    with pytest.raises(RecipeError, match="--- user ---"):
        parse_prompt("x", "just text", set(), image=False)
    with pytest.raises(RecipeError, match="needs"):
        parse_prompt("x", "--- user ---\nno picture", set(), image=True)
    with pytest.raises(RecipeError, match=r"\$\$"):
        parse_prompt("x", "--- user ---\n5 $ each", set(), image=False)


@pytest.mark.parametrize(
    "origin",
    [
        "package:",
        "package:/a.txt",
        "package:.relative/a.txt",
        "package:engine.errors/a.txt",
        "package:no-such/a",
    ],
)
def test_a_prompt_of_a_malformed_package_is_refused(origin: str) -> None:
    with pytest.raises(RecipeError, match=f"prompt describe: {re.escape(origin)} cannot be read"):
        load_prompt("describe", origin, (), image=True)
