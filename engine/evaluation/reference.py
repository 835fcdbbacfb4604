"""Figures that a paper printed, to be shown beside measured ones."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import engine
from engine.errors import RecipeError

#: Beside the package, in the project's own documentation.
_FOLDER = Path(engine.__file__).parents[1] / "docs" / "reference"
#: Figures that are no share, as they are printed.
_AS_PRINTED = ("meanR", "medR", "CLIPScore", "VQAScore")


@dataclass(frozen=True)
class Published:
    """One figure of a paper; `way`, `category` and `figure` as in `engine.evaluation.tables.FIGURES`.

    `table` is its number in the paper; shares are 0 to 1.
    """

    table: str
    model: str
    way: str
    category: str
    figure: str
    value: float


@cache
def published(name: str) -> tuple[Published, ...]:
    """The figures of a file in docs/reference: `imp` is `imp_tables.csv`.

    Raises:
        RecipeError: the file is not there, as where the package was installed without its documentation.
    """
    place = _FOLDER / f"{name}_tables.csv"
    if not place.is_file():
        raise RecipeError(f"reference: {name}: there is no {place}; take it out of the set")
    with place.open(newline="") as file:
        return tuple(
            Published(
                **{key: row[key] for key in ("table", "model", "way", "category", "figure")},
                value=float(row["value"]) / (1 if row["figure"] in _AS_PRINTED else 100),
            )
            for row in csv.DictReader(file)
        )


def published_rows(name: str, chosen: str) -> list[dict[str, Any]]:
    """The figures as rows like those of a table FIGURES, under names that tell where they come from.

    Args:
        name: of the paper.
        chosen: the set that they stand in.
    """
    return [
        {
            "model": f"{each.model} ({name.upper()}, Table {each.table})",
            "set": chosen,
            "way": each.way,
            "category": each.category,
            "reading": "natural" if each.category == "all" or each.way == "pairs" else "paper",
            "figure": each.figure,
            "value": each.value,
            "low": None,
            "high": None,
        }
        for each in published(name)
    ]
