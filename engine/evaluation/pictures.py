"""The pictures of an evaluation: similarities by model, and AUPRC by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.evaluation.negatives import PAIRS
from engine.maps.densities import Densities, draw_densities
from engine.maps.recalls import Reached, draw_recalls


def similarities_picture(name: str, tables: Mapping[str, pa.Table]) -> bytes:
    """The densities of one set.

    Args:
        name: of the set.
        tables: schema SIMILARITIES, by model.
    """
    panels = []
    for model, table in tables.items():
        rows = table.to_pylist()
        kinds = list(dict.fromkeys(row["pairs"] for row in rows))
        bins = [row for row in rows if row["pairs"] == kinds[0]]
        edges = np.array([bins[0]["low"], *(row["high"] for row in bins)])
        counts = {kind: np.array([row["count"] for row in rows if row["pairs"] == kind]) for kind in kinds}
        panels.append(Densities(model, edges, counts, "similarity"))
    return draw_densities(panels, f"Similarity of matching and other pairs: {name}")


def auprc_picture(name: str, rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """AUPRC of each category and model with its interval, and the base rates as marks; None without any.

    Args:
        name: of the set.
        rows: of schema FIGURES, of this set.
    """
    some = [row for row in rows if row["way"] == PAIRS and row["figure"] in ("AUPRC", "base rate")]
    categories = list(dict.fromkeys(row["category"] for row in some))
    if not categories:
        return None
    models = [
        _reached(model, [row for row in some if row["model"] == model], categories, "AUPRC")
        for model in dict.fromkeys(row["model"] for row in some)
    ]
    base = _reached("base rate", some, categories, "base rate")
    return draw_recalls(categories, models, [base], f"AUPRC by category: {name}", "AUPRC (%)")


def _reached(name: str, rows: Sequence[Mapping[str, Any]], categories: Sequence[str], figure: str) -> Reached:
    found = {row["category"]: row for row in rows if row["figure"] == figure}
    ends = (
        np.array(
            [
                np.nan if each not in found or found[each][end] is None else 100 * found[each][end]
                for each in categories
            ]
        )
        for end in ("value", "low", "high")
    )
    return Reached(name, *ends)
