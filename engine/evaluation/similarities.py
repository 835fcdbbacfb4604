"""How similar matching and other pairs are to a model: counts in bins, small enough to keep and to draw."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.retrieval.figures import ALL

BINS = 100
#: What stands in the column `pairs` for each image with a caption of another one.
OTHERS = "others"

#: One row per kind of pairs and bin: `all` matching pairs, those of each category, and `others`.
SIMILARITIES = pa.schema(
    [
        pa.field("pairs", pa.string(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)


def similarity_rows(
    own: NDArray[np.float64], others: NDArray[np.float64], categories: Mapping[str, NDArray[np.bool_]]
) -> pa.Table:
    """The table of a model on a set, schema SIMILARITIES; its bins span all similarities evenly.

    Args:
        own: (m,), of the matching pairs.
        others: (n,), of the others; nan where there is none.
        categories: (m,), which matching pairs are of each.
    """
    apart = others[np.isfinite(others)]
    kinds = {ALL: own, **{name: own[rows] for name, rows in categories.items() if rows.any()}, OTHERS: apart}
    whole = np.concatenate([own, apart])
    low, high = float(whole.min()), float(whole.max())
    # All similarities may be one; they lie in the middle of a narrow span then.
    edges = np.linspace(low, high, BINS + 1) if high > low else low + np.linspace(-1e-3, 1e-3, BINS + 1)
    rows = [
        {"pairs": name, "low": float(start), "high": float(end), "count": int(count)}
        for name, values in kinds.items()
        for start, end, count in zip(edges, edges[1:], np.histogram(values, edges)[0], strict=False)
    ]
    return pa.Table.from_pylist(rows, schema=SIMILARITIES)
