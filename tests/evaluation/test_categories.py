"""Categories whose names travel with their codes, and labels out of the source that name them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RecipeError
from engine.evaluation.categories import MAX_CATEGORIES, Categories
from engine.evaluation.labels import Labels
from engine.export.mined import MinedSample

NAMES = st.sampled_from(["hard", "easy", "medium", "zoo", "Art", "", None])


@given(st.lists(st.lists(NAMES, max_size=6), max_size=5))
def test_parts_join_to_what_they_are_together(parts: list[list[str | None]]) -> None:
    made = Categories.joined([Categories.of(part) for part in parts])
    labels = [label for part in parts for label in part]
    whole = Categories.of(labels)
    assert made.names == whole.names and made.codes.dtype == np.int8
    assert made.codes.tolist() == whole.codes.tolist()
    assert [[*made.names, None][code] for code in made.codes] == labels
    assert set(made.rows()) == {label for label in labels if label is not None}
    for name, rows in made.rows().items():
        assert rows.tolist() == [label == name for label in labels]


def test_the_papers_categories_come_first() -> None:
    assert Categories.of(["a", "hard", "b", None, "easy"]).names == ("easy", "hard", "a", "b")
    some = Categories.of(["a", "hard", None]).some(np.array([2, 1]))
    assert some.codes.tolist() == [-1, 0] and some.names == ("hard", "a")
    # A division tells of its categories even where they are empty.
    divided = Categories(np.array([2, -1], np.int8), ("easy", "medium", "hard"))
    assert list(Categories.joined([divided, divided]).rows()) == ["easy", "medium", "hard"]
    assert Categories(np.full(3, -1, np.int8), ("easy", "hard")).rows() == {}


def test_too_many_and_taken_names() -> None:
    most = [f"{number:03d}" for number in range(MAX_CATEGORIES)]
    assert len(Categories.of(most).names) == MAX_CATEGORIES
    with pytest.raises(RecipeError, match=r"101 different labels, such as '000' and 'x'"):
        Categories.joined([Categories.of(most), Categories.of(["x"])])
    for taken in ("all", "others"):
        with pytest.raises(RecipeError, match=f"label '{taken}' has a meaning of its own"):
            Categories.of(["easy", taken])


class Reader:
    """Samples of which each has three captions."""

    def __init__(self, *extras: Any) -> None:
        self._extras = extras

    def part(self, row: Any) -> list[MinedSample]:
        return [
            MinedSample(str(i), f"k{i}", "a.tar", 0, 9, ["x", "y", "z"], extra and json.dumps(extra), None)
            for i, extra in enumerate(self._extras)
        ]


def read(extras: list[Any], *cells: tuple[int, int], of: str = "original") -> list[str | None]:
    labels = Labels(None, of, "level")  # type: ignore[arg-type]
    numbers, places = np.array(cells, np.int64).T
    found = labels.read(Reader(*extras), {}, numbers, places)  # type: ignore[arg-type]
    return [[*found.names, None][code] for code in found.codes]


def test_labels_belong_to_captions() -> None:
    extras = [{"level": ["easy", None, " odd "]}, {"level": "hard"}, {}, None, {"level": ["a", "", "b"]}]
    cells = [(0, 0), (0, 2), (1, 0), (1, 1), (2, 1), (3, 0), (4, 1), (4, 2)]
    assert read(extras, *cells) == ["easy", "odd", "hard", "hard", None, None, None, "b"]
    # What is no pair of the set is nobody's business.
    assert read([{"level": "easy"}, {"level": [1]}], (0, 0)) == ["easy"]
    assert read([{"level": ["one", "two"], "more": ["p", "q"]}], (0, 1), of="field:more") == ["two"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (
            {"level": ["easy", "hard"]},
            r"sample 'k0' \(a.tar\): its field 'level' holds 2 labels for 3",
        ),
        ({"level": []}, "holds 0 labels for 3 captions"),
        # Which of them belong to the captions that the catalog keeps, nobody knows any more.
        ({"level": ["a", "b", "c", "d"]}, "holds 4 labels for 3 captions .* than images.captions_each"),
        ({"level": 2}, "holds 2, which is no text"),
        ({"level": ["easy", 2, "hard"]}, "holds 2, which is no text"),
        ({"level": {"a": "b"}}, "which is no text"),
    ],
)
def test_labels_that_do_not_fit(extra: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        read([extra], (0, 0))
