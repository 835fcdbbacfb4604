"""The page of results against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from engine.terrarium.measure import COLUMNS, SetRanks
from engine.terrarium.results_page import (
    Measured,
    Results,
    cost_of,
    meets_goals,
    page,
    ratio_of,
    reached,
    recall_of,
    tables,
)

IMAGES = 200
NAMES = dict.fromkeys(name for names in COLUMNS.values() for name in names)


def answers(share: float, **others: float) -> dict[str, SetRanks]:
    """One text a scene; the first of them are found at rank 1, the rest at rank 50."""
    found = {}
    for name in NAMES:
        right = np.arange(IMAGES) < others.get(name, share) * IMAGES
        places = np.where(right, 1, 50)
        found[name] = SetRanks(np.arange(IMAGES), places, places)
    return found


def results(*methods: Measured) -> Results:
    before = Measured("before", [answers(0.2, literal=0.9)])
    return Results(before, Measured("knower", [answers(1.0)]), methods, IMAGES, draws=150)


GOOD = Measured("full", [answers(0.4, literal=0.9), answers(0.5, literal=0.88)], "`{}`")
BAD = Measured("lora", [answers(0.25, literal=0.85)])


def test_recall_is_the_mean_over_seeds_with_an_interval_over_images() -> None:
    found = recall_of(results(GOOD), GOOD, "poems", "t2i", 5)
    assert found.value == pytest.approx(45)
    error = 100 * np.sqrt(0.45 * 0.55 / IMAGES)
    assert 1.4 * error < found.high - found.low < 4.4 * error
    assert found.low < 45 < found.high


def test_ratio_and_cost_are_paired() -> None:
    all_of = results(GOOD, BAD)
    assert ratio_of(all_of, GOOD, "abstract").value == pytest.approx(2.25)
    assert cost_of(all_of, BAD, "literal").value == pytest.approx(5)
    # The very same answers differ by nothing in every draw.
    same = Measured("same", all_of.before.seeds)
    found = ratio_of(all_of, same, "poems")
    assert (found.value, found.low, found.high) == (1, 1, 1)
    found = cost_of(all_of, same, "literal")
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_goals() -> None:
    all_of = results(GOOD, BAD)
    assert meets_goals(all_of, GOOD) and not meets_goals(all_of, BAD)
    forgets = Measured("x", [answers(0.9, literal=0.87)])
    assert not meets_goals(all_of, forgets)
    assert not meets_goals(all_of, Measured("x", [answers(0.9, literal=0.9, poems=0.2)]))


def test_nothing_found_before_has_no_ratio() -> None:
    nothing = Results(
        Measured("before", [answers(0.0)]), Measured("knower", [answers(1)]), [GOOD], IMAGES, 50
    )
    found = ratio_of(nothing, GOOD, "poems")
    assert np.isinf(found.value) and np.isnan(found.low)


def test_tables_have_every_method_and_set() -> None:
    text = tables(results(GOOD, BAD))
    assert text.count("\n## ") == 4 and text.startswith("## What was gained")
    for line in text.splitlines():
        if line.startswith("| full"):
            assert line.count("|") in (7, 2 + len(COLUMNS))
    assert "| percent | literal | synonym | broader | context | concept | metaphor | abstract |" in text
    row = next(line for line in text.split("## R@5, text to image")[1].splitlines() if "| full" in line)
    assert "45.0 [" in row and "±7.1" in row
    assert "±" not in next(
        line for line in text.splitlines() if line.startswith("| lora | 9") or "85.0" in line
    )


def test_the_page_names_figure_and_settings() -> None:
    text = page(results(GOOD, BAD), "# Results\n\nhead", "figure.png")
    assert text.startswith("# Results\n\nhead\n\n**How to read it.**") and text.endswith("|\n")
    assert "](figure.png)" in text and "| full | `{}` |" in text


def test_a_row_of_the_figure() -> None:
    all_of = results(GOOD)
    row = reached(all_of, GOOD)
    assert row.name == "full" and row.value.shape == (len(COLUMNS),)
    assert row.value[list(COLUMNS).index("abstract")] == pytest.approx(45)
    assert (row.low <= row.value).all() and (row.value <= row.high).all()
