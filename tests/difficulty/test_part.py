"""The votes on one part, where voters see different pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.difficulty.part import divide
from engine.difficulty.voting import Quorum, Unanimity
from engine.embeddings import VectorTables
from engine.errors import StorageError
from engine.evaluation.pairs import PairTables
from engine.schema import captions_schema, images_schema
from engine.storage import StageTables, locate

RIGHT, WRONG = [1.0, 0.0], [0.0, 1.0]


def voter(root: Path, name: str, images: list[Any], captions: list[Any]) -> PairTables:
    number = pa.float32()
    kinds = {"images": images_schema(number, 2, 1), "original": captions_schema(number, 2)}
    made = []
    for kind, column, values in (("images", "vector", images), ("original", "vectors", captions)):
        tables = StageTables(locate(root / name / kind))
        rows = [
            {"id": f"{n:016x}", "key": f"k{n}", column: value, "error": None}
            for n, value in enumerate(values)
        ]
        tables.commit("part-0", pa.Table.from_pylist(rows, schema=kinds[kind]))
        made.append(VectorTables(name, kind, 2, kinds[kind], tables, name))  # type: ignore[arg-type]
    return PairTables(*made)


def told(*voters: PairTables, rule: Any = None) -> list[list[str | None]]:
    table = divide(voters, [0.5] * len(voters), rule or Unanimity(), "part-0")
    for row in table.to_pylist():
        # Where there is no category there are neither votes nor similarities.
        for category, votes, scores in zip(row["categories"], row["votes"], row["similarities"], strict=True):
            assert (category is None) == (votes is None) == (scores is None)
    return [row["categories"] for row in table.to_pylist()]


CAPTIONS = [[RIGHT, WRONG], [WRONG], [RIGHT], []]
IMAGES = [RIGHT, RIGHT, RIGHT, RIGHT]


def test_who_sees_less_moves_nobody(tmp_path: Path) -> None:
    full = voter(tmp_path, "full", IMAGES, CAPTIONS)
    wanted = [["easy", "hard"], ["hard"], ["easy"], []]
    assert told(full, full) == wanted
    # A row of which one encoder made nothing is null as a whole.
    first = voter(tmp_path, "first", IMAGES, [None, *CAPTIONS[1:]])
    last = voter(tmp_path, "last", IMAGES, [*CAPTIONS[:2], None, []])
    for one in ((first, full), (full, first)):
        assert told(*one) == [[None, None], ["hard"], ["easy"], []]
    assert told(first, last) == [[None, None], ["hard"], [None], []]
    hole = voter(tmp_path, "hole", [RIGHT, None, WRONG, RIGHT], [[None, RIGHT], [WRONG], [RIGHT], []])
    assert told(full, hole) == [[None, "medium"], [None], ["medium"], []]
    assert told(full, hole, full, rule=Quorum(2, 1)) == [[None, "hard"], [None], ["easy"], []]


def test_tables_of_other_captions_are_refused(tmp_path: Path) -> None:
    full = voter(tmp_path, "full", IMAGES, CAPTIONS)
    other = voter(tmp_path, "other", IMAGES, [[RIGHT], *CAPTIONS[1:]])
    with pytest.raises(StorageError, match=r"other/original/part-0\.parquet: has other captions"):
        told(full, other)
