"""The page of an evaluation: figures, published ones beside them, and what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.errors import RecipeError
from engine.evaluation import reference
from engine.evaluation.page import page
from engine.evaluation.reference import published
from engine.evaluation.tables import FIGURES
from engine.recipe import Preference, TestSet
from engine.retrieval.figures import WAYS

BASE = {"model": "mine", "set": "a", "count": 9, "images": 1000, "texts": 5000, "without": 2}


def figure(
    way: str, category: str, reading: str, name: str, value: Any, low: Any = None, high: Any = None
) -> Any:
    told = {"way": way, "category": category, "reading": reading, "figure": name}
    return {**BASE, **told, "value": value, "low": low, "high": high}


def table(*rows: Any) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=FIGURES)


ROWS = [
    figure(WAYS[0], "all", "natural", "R@1", 0.25, 0.2, 0.3),
    figure(WAYS[0], "all", "natural", "medR", 12.5, 10, 14),
    figure(WAYS[1], "all", "natural", "R@1", None),
    figure("pairs", "all", "natural", "CLIPScore", 0.2876, 0.28, 0.3),
    figure("pairs", "all", "natural", "AUPRC", 0.9, 0.8, 0.95),
    figure("pairs", "all", "natural", "base rate", 0.5),
    figure(WAYS[1], "hard", "paper", "R@5", 0.125, 0.1, 0.15),
    figure(WAYS[1], "hard", "natural", "medR", 1234, 1000, 2000.4),
]


def test_figures_stand_in_their_tables() -> None:
    told = page(table(*ROWS), [TestSet(name="a")])
    assert "## a" in told and "1,000 images, 5,000 texts; 2 images without a vector." in told
    assert "| model | R@1 | medR |\n|---|---|---|\n| mine | 25.0 [20.0, 30.0] | 12.5 [10, 14] |" in told
    assert "| mine | - |" in told, "a figure without a value"
    assert "### CLIPScore\n\n| model | CLIPScore, all |\n|---|---|\n| mine | 0.2876 [0.28, 0.3] |" in told
    assert (
        "### AUPRC\n\n| model | AUPRC, all | base rate |\n|---|---|---|\n| mine | 90.0 [80.0, 95.0] | 50.0 |"
        in told
    )
    assert "| mine | paper | 12.5 [10.0, 15.0] | - |" in told
    assert "| mine | natural | - | 1,234 [1,000, 2,000] |" in told


def test_published_figures_stand_beside_them() -> None:
    told = page(table(*ROWS), [TestSet(name="a", reference="imp")])
    assert "| CLIP ViT-L/14 (IMP, Table 3) | 15.8 | 531 |" in told
    assert "| CLIP ViT-L/14 (IMP, Table 4) | paper | 0.1 | 1,129 |" in told
    assert "CLIP ViT-L/14 (IMP, Table 4) | natural" not in told
    assert "| CLIP ViT-B/32 (IMP, Table 11) | 0.25 |" in told
    # Of AUPRC the paper's table has hard pairs alone, and the set has none.
    assert "Table 6" not in told and "FlanT5" not in told
    assert "EVA02 (IMP" not in page(table(*ROWS), [TestSet(name="a")])


def test_auprc_by_category_stands_as_in_table_6() -> None:
    hard = [
        figure("pairs", "hard", "natural", "AUPRC", 0.66, 0.6, 0.7),
        figure("pairs", "hard", "natural", "base rate", 0.5),
    ]
    told = page(table(*ROWS, *hard), [TestSet(name="a", reference="imp")])
    head, _, *lines = told.split("### AUPRC\n\n")[1].split("\n\n")[0].splitlines()
    assert head == "| model | AUPRC, all | base rate | AUPRC, hard | base rate |"
    assert lines[0] == "| mine | 90.0 [80.0, 95.0] | 50.0 | 66.0 [60.0, 70.0] | 50.0 |"
    assert "| EVA02 (IMP, Table 6) | - | - | 68.0 | - |" in lines and len(lines) == 8


def test_a_set_tells_of_its_own_negatives_and_categories() -> None:
    counted = [{**row, "count": {"AUPRC": 25000, "base rate": 30000}.get(row["figure"], 9)} for row in ROWS]
    chosen = TestSet(name="a", negatives="field:failed", categories="field:level")
    told = page(table(*counted), [chosen])
    assert "Pairs that do not match: 5,000 captions refused for their very image (field:failed)." in told
    assert "Categories: labels of the source (field:level)." in told
    assert "refused for their very" not in page(table(*counted), [TestSet(name="a")])
    none = page(table(*(row for row in counted if row["category"] == "all")), [chosen])
    assert "Categories: none, since no caption of a pair has a label there (field:level)." in none


def test_preferences_have_a_table() -> None:
    told = {"set": "p", "way": "preference", "category": "all", "reading": "natural", "figure": "preference"}
    row = {**BASE, **told, "value": 0.75, "low": 0.7, "high": 0.8, "count": 1500, "texts": 1540}
    asked = [TestSet(name="a"), Preference(name="p", preferred="*CoT*")]
    text = page(table(*ROWS, row), asked)
    assert "| p | mine | 75.0 [70.0, 80.0] | 1,500 | 40 | 1,000 | 2 |" in text and "## p" not in text
    alone = page(table(row), asked[1:])
    assert "## Preferences" in alone and "Similarities" not in alone and "## a" not in alone


def test_vqascores_have_a_table() -> None:
    asked = {"model": "vqascore:vlm", "images": 7, "texts": 30}
    scores = [
        {**figure("pairs", "all", "natural", "VQAScore", 0.6612, 0.6, 0.7), **asked},
        {**figure("pairs", "hard", "natural", "VQAScore", 0.5), **asked},
    ]
    told = page(table(*ROWS, *scores), [TestSet(name="a")])
    assert "### VQAScore\n\n| model | VQAScore, all | VQAScore, hard |" in told and "7 images" not in told
    assert told.count("| vqascore:vlm |") == 1
    assert "| vqascore:vlm | 0.6612 [0.6, 0.7] | 0.5 |" in told
    assert "### CLIPScore\n\n| model | CLIPScore, all |\n|---|---|\n| mine | 0.2876 [0.28, 0.3] |" in told
    printed = page(table(*ROWS, *scores), [TestSet(name="a", reference="imp")])
    assert "| CLIP-FlanT5-XL (IMP, Table 11) | 0.66 | 0.58 |" in printed
    assert "VQAScore, all" not in page(table(*ROWS), [TestSet(name="a")])


def test_the_papers_tables_parse() -> None:
    found = published("imp")
    assert len(found) > 80 and {each.table for each in found} == {"3", "4", "6", "7", "11"}
    of = {(each.table, each.model, each.way, each.category, each.figure): each.value for each in found}
    assert of["3", "EVA02", WAYS[1], "all", "R@5"] == pytest.approx(0.179)
    assert of["4", "CLIP ViT-L/14", WAYS[1], "hard", "medR"] == 1129
    # With one match a text, mAP is at least R@1 / 1 and at most 1: percent were read as percent.
    for (paper, model, way, category, name), value in of.items():
        assert 0 <= value <= 1 or name in ("meanR", "medR"), (paper, model, way, category, name)
        if name == "R@1" and paper == "3":
            assert value <= of[paper, model, way, category, "R@5"] <= of[paper, model, way, category, "R@10"]


def test_without_its_documentation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reference, "_FOLDER", tmp_path)
    published.cache_clear()
    with pytest.raises(RecipeError, match=r"there is no .*imp_tables\.csv"):
        published("imp")
    published.cache_clear()


def test_categories_that_are_markdown() -> None:
    rows = [*ROWS, figure(WAYS[1], "a|b\nc", "paper", "R@5", 0.5)]
    told = page(table(*rows), [TestSet(name="a")])
    assert "R@5, a\\|b c |" in told


def test_names_that_are_markdown() -> None:
    rows = [{**row, "model": "a|b"} for row in ROWS]
    assert "| a\\|b | 25.0" in page(table(*rows), [TestSet(name="a")])
