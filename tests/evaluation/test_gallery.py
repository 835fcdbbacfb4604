"""Parts joined to one gallery, against a gallery made of the texts themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluation.categories import Categories
from engine.evaluation.gallery import Gallery, Head, gallery

#: Of each text; not all have one.
LABELS = {"a": "odd", "bb": "hard", "ccc": "even", "d": None}


def heads(parts: list[list[list[str]]], together: bool) -> list[Head]:
    """Of parts, each a list of images, each a list of captions."""
    found = []
    for part in parts:
        texts = [text for image in part for text in image]
        owners = np.repeat(np.arange(len(part)), [len(image) for image in part])
        digests = np.array([sum(map(ord, text)) for text in texts], np.uint64) if together else None
        categories = Categories.of([LABELS[text] for text in texts])
        # Every other caption vector of the table belongs to no pair.
        vectors = 2 * np.arange(len(texts))
        found.append(Head(len(part), 1, owners.astype(np.int64), vectors, categories, digests))
    return found


def texts_of(made: Gallery, parts: list[list[list[str]]]) -> list[str]:
    """The text of each number, part by part."""
    found = []
    for index, part in enumerate(parts):
        captions = [text for image in part for text in image]
        kept = [captions[vector // 2] for vector in made.vectors[index]]
        assert len(kept) == made.texts[index + 1] - made.texts[index]
        found += kept
    return found


PARTS = st.lists(
    st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "d"]), max_size=3), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@settings(max_examples=120)
@given(PARTS, st.booleans(), st.integers(0, 9))
def test_every_pair_is_there_once(parts: list[list[list[str]]], together: bool, seed: int) -> None:
    made = gallery(heads(parts, together), seed)
    images = [image for part in parts for image in part]
    texts = texts_of(made, parts)
    pairs = [(int(i), texts[t]) for i, t in zip(made.matches.images, made.matches.texts, strict=True)]
    wanted = [(number, text) for number, image in enumerate(images) for text in image]
    if together:
        assert len(set(texts)) == len(texts) and set(texts) == {text for image in images for text in image}
        wanted = list(dict.fromkeys(wanted))
    assert pairs == wanted
    names = [*made.categories.names, None]
    assert [names[code] for code in made.categories.codes] == [LABELS[text] for _, text in wanted]
    assert made.images.tolist() == np.cumsum([0, *(len(part) for part in parts)]).tolist()
    assert made.without == len(parts)
    for number, other in enumerate(made.others):
        assert other < 0 or texts[other] not in images[number] or not together
        own = made.matches.texts[made.matches.images == number]
        assert other not in own


@pytest.mark.parametrize("together", [False, True])
def test_the_pairs_of_some_images(together: bool) -> None:
    parts = [[["a", "bb"], ["a"]], [[], ["bb", "ccc"]]]
    made = gallery(heads(parts, together), 0)
    assert made.pairs_of(slice(0, 2)) == slice(0, 3)
    assert made.pairs_of(slice(2, 4)) == slice(3, 5)
    assert made.pairs_of(slice(2, 3)) == slice(3, 3)
    assert made.texts.tolist() == ([0, 2, 3] if together else [0, 3, 5])


def test_nobody_has_a_caption() -> None:
    made = gallery(heads([[[], []]], True), 0)
    assert not len(made.matches.images) and made.others.tolist() == [-1, -1]
