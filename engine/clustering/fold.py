"""From the tables of the parts to the table of the clusters: sums that can be merged.

In any order, but for words so rare that they are left out (`terms.MOST_WORDS`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.clustering.drawing import lots
from engine.clustering.tables import numbers_in
from engine.clustering.terms import merge, top_terms, words_of
from engine.recipe.analysis import Cluster
from engine.schema import CLUSTERS

#: The columns that are read of each part.
COLUMNS = ("id", "key", "x", "y", "label", "strength", "error")


@dataclass
class Sums:
    """What is known of some parts' images, by cluster.

    Attributes:
        rows: images, by label.
        totals: sums of strength, x and y, by label.
        words: the words of their captions, by label.
        exemplars: (minus strength, lot, id, key) of the best, by label.
        excluded: images without a place, by reason.
    """

    rows: Counter[int] = field(default_factory=Counter)
    totals: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    words: dict[int, Counter[str]] = field(default_factory=dict)
    exemplars: dict[int, list[tuple[float, int, str, str]]] = field(default_factory=dict)
    excluded: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table, captions: Sequence[Iterable[str]], settings: Cluster, seed: int) -> None:
        """Take in the table of a part (columns COLUMNS), with the captions of each of its images."""
        self.excluded.update(reason for reason in table["error"].to_pylist() if reason is not None)
        lot = lots(numbers_in(table), seed)
        rows = table.drop_columns(["error"]).to_pylist()
        words: dict[int, Counter[str]] = {}
        for row, number, said in zip(rows, lot.tolist(), captions, strict=True):
            label = row["label"]
            if label is None:
                continue
            self.rows[label] += 1
            total = self.totals.setdefault(label, np.zeros(3))
            total += (row["strength"], row["x"], row["y"])
            words.setdefault(label, Counter()).update(words_of(said))
            entry = (-row["strength"], number, row["id"], row["key"])
            self.exemplars.setdefault(label, []).append(entry)
        merge(self.words, words)
        self._trim(settings.exemplars)

    def join(self, other: Sums, settings: Cluster) -> None:
        """Take in the sums of other parts."""
        self.rows.update(other.rows)
        self.excluded.update(other.excluded)
        for label, total in other.totals.items():
            self.totals[label] = self.totals.get(label, np.zeros(3)) + total
        merge(self.words, other.words)
        for label, entries in other.exemplars.items():
            self.exemplars.setdefault(label, []).extend(entries)
        self._trim(settings.exemplars)

    def table(self, persistence: Sequence[float], settings: Cluster) -> pa.Table:
        """The clusters, schema CLUSTERS, by falling size; noise is the label -1."""
        terms, everything = top_terms(self.words, settings.terms), max(self.rows.total(), 1)
        made: list[dict[str, Any]] = []
        for label, rows in sorted(self.rows.items(), key=lambda item: (-item[1], item[0])):
            strength, x, y = (self.totals[label] / rows).tolist()
            best = [] if label < 0 else self.exemplars[label]
            made.append(
                {
                    "label": label,
                    "size": rows,
                    "share": rows / everything,
                    "persistence": float(persistence[label]) if label >= 0 else None,
                    "strength": strength,
                    "x": x,
                    "y": y,
                    "exemplars": [entry[2] for entry in best],
                    "keys": [entry[3] for entry in best],
                    "terms": terms.get(label, []),
                }
            )
        return pa.Table.from_pylist(made, schema=CLUSTERS)

    def _trim(self, count: int) -> None:
        """The densest samples of a cluster; where many are, as hdbscan's exemplars, a seeded few."""
        for label, entries in self.exemplars.items():
            self.exemplars[label] = sorted(entries)[:count]


def names_of(clusters: pa.Table, words: int = 3) -> dict[int, str]:
    """What to call each cluster: its first terms."""
    some = clusters.filter(pc.greater_equal(clusters["label"], 0))
    pairs = zip(some["label"].to_pylist(), some["terms"].to_pylist(), strict=True)
    return {label: ", ".join(terms[:words]) or f"cluster {label}" for label, terms in pairs}
