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
    told = page(table(*ROWS), {})
    assert "## a" in told and "1,000 images, 5,000 texts; 2 images without a vector." in told
    assert "| model | R@1 | medR |\n|---|---|---|\n| mine | 25.0 [20.0, 30.0] | 12.5 [10, 14] |" in told
    assert "| mine | - |" in told, "a figure without a value"
    assert "| mine | 0.2876 [0.28, 0.3] | 90.0 [80.0, 95.0] | 50.0 |" in told
    assert "| mine | paper | 12.5 [10.0, 15.0] | - |" in told
    assert "| mine | natural | - | 1,234 [1,000, 2,000] |" in told


def test_published_figures_stand_beside_them() -> None:
    told = page(table(*ROWS), {"a": "imp"})
    assert "| CLIP ViT-L/14 (IMP, Table 3) | 15.8 | 531 |" in told
    assert "| CLIP ViT-L/14 (IMP, Table 4) | paper | 0.1 | 1,129 |" in told
    assert "CLIP ViT-L/14 (IMP, Table 4) | natural" not in told
    assert "| CLIP ViT-B/32 (IMP, Table 11) | 0.25 | - | - |" in told
    assert "EVA02 (IMP" not in page(table(*ROWS), {})


def test_vqascores_stand_among_the_pairs() -> None:
    asked = {"model": "vqascore:vlm", "images": 7, "texts": 30}
    scores = [
        {**figure("pairs", "all", "natural", "VQAScore", 0.6612, 0.6, 0.7), **asked},
        {**figure("pairs", "hard", "natural", "VQAScore", 0.5), **asked},
    ]
    told = page(table(*ROWS, *scores), {})
    assert "| VQAScore, all | VQAScore, hard |" in told and "7 images" not in told
    assert told.count("| vqascore:vlm |") == 1
    assert "| vqascore:vlm | - | - | - | - | - | - | 0.6612 [0.6, 0.7] | 0.5 |" in told
    assert "| mine | 0.2876 [0.28, 0.3] | - | 90.0 [80.0, 95.0] | 50.0 | - | - | - | - |" in told
    printed = page(table(*ROWS, *scores), {"a": "imp"})
    assert "| CLIP-FlanT5-XL (IMP, Table 11) | - | - | - | - | - | - | 0.66 | 0.58 |" in printed
    assert "VQAScore, all" not in page(table(*ROWS), {})


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


def test_names_that_are_markdown() -> None:
    rows = [{**row, "model": "a|b"} for row in ROWS]
    assert "| a\\|b | 25.0" in page(table(*rows), {})
