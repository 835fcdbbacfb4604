"""From the tables of the parts to the table of the clusters."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.clustering.drawing import lots
from engine.clustering.fold import COLUMNS, Sums, names_of
from engine.recipe.analysis import Cluster
from engine.schema import CLUSTERS, cluster_schema
from engine.stages.embed import NO_DIRECTION

SETTINGS = Cluster(encoder="hf:a/b", exemplars=3, terms=4)
PERSISTENCE = [0.5, 0.25, 0.75]
_SCHEMA = pa.schema([cluster_schema(2).field(name) for name in COLUMNS])
_WORDS = ["dog", "cat", "boat", "river", "kite", "mountain", "lantern"]

Part = tuple[pa.Table, list[list[str]]]


def part(rows: list[dict[str, Any]]) -> Part:
    """A part's table as the job reads it, and the captions of its images."""
    captions = [row.pop("captions", []) for row in rows]
    return pa.Table.from_pylist(rows, schema=_SCHEMA), captions


def row(number: int, label: int, strength: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{number:016x}",
        "key": f"key {number}",
        "x": more.pop("x", 0.0),
        "y": more.pop("y", 0.0),
        "label": label,
        "strength": strength,
        **more,
    }


def failed(number: int, reason: str) -> dict[str, Any]:
    return {"id": f"{number:016x}", "key": f"key {number}", "error": reason}


def parts_of(count: int, rows: int, seed: int = 0) -> list[Part]:
    rng = np.random.default_rng(seed)
    made = []
    for at in range(count):
        some = []
        for number in range(at * rows, (at + 1) * rows):
            if rng.random() < 0.1:
                some.append(failed(number, NO_DIRECTION if number % 3 else "broken image"))
                continue
            label = int(rng.integers(-1, 3))
            # Of few binary digits: sums of them are exact in any order.
            strength, x, y = (rng.integers(0, 5) / 4, rng.integers(-40, 40) / 8, rng.integers(-40, 40) / 8)
            captions = [" ".join(rng.choice(_WORDS, 3 + label)) for _ in range(2)]
            some.append(row(number, label, float(strength), x=x, y=y, captions=captions))
        made.append(part(some))
    return made


def summed(parts: list[Part], seed: int = 0) -> Sums:
    sums = Sums()
    for table, captions in parts:
        sums.add(table, captions, SETTINGS, seed)
    return sums


def test_parts_may_be_joined_in_any_grouping() -> None:
    parts = parts_of(5, 60)
    whole = summed(parts).table(PERSISTENCE, SETTINGS)
    assert whole.schema.equals(CLUSTERS) and len(whole) == 4
    for order in itertools.islice(itertools.permutations(parts), 0, 120, 7):
        for cuts in ((1, 2, 3, 4), (2, 3), (4,)):
            total = Sums()
            for piece in np.split(np.arange(5), cuts):
                total.join(summed([order[i] for i in piece]), SETTINGS)
            assert total.table(PERSISTENCE, SETTINGS).equals(whole)
            assert total.excluded == summed(parts).excluded


def test_joining_leaves_the_others_alone() -> None:
    first, second = (summed([each]) for each in parts_of(2, 40))
    before = second.table(PERSISTENCE, SETTINGS)
    total = Sums()
    total.join(second, SETTINGS)
    total.join(first, SETTINGS)
    total.join(first, SETTINGS)
    assert second.table(PERSISTENCE, SETTINGS).equals(before)


def test_what_the_table_says() -> None:
    made = summed(
        [
            part(
                [
                    row(1, 0, 1.0, x=1, y=2, captions=["a dog by the river"]),
                    row(2, 0, 0.5, x=3, y=4, captions=["dogs"]),
                    row(3, -1, 0.0, x=9, y=9, captions=["a kite"]),
                    row(4, 1, 0.25, x=-1, y=0),
                    row(5, 0, 0.75, x=5, y=0),
                    failed(6, "broken image"),
                ]
            )
        ]
    ).table(PERSISTENCE, SETTINGS)
    assert made.to_pylist() == [
        {
            "label": 0, "size": 3, "share": 0.6, "persistence": 0.5, "strength": 0.75, "x": 3.0, "y": 2.0,
            "exemplars": [f"{1:016x}", f"{5:016x}", f"{2:016x}"], "keys": ["key 1", "key 5", "key 2"],
            "terms": ["dog", "river"],
        },
        {
            "label": -1, "size": 1, "share": 0.2, "persistence": None, "strength": 0.0, "x": 9.0, "y": 9.0,
            "exemplars": [], "keys": [], "terms": ["kite"],
        },
        {
            "label": 1, "size": 1, "share": 0.2, "persistence": 0.25, "strength": 0.25, "x": -1.0, "y": 0.0,
            "exemplars": [f"{4:016x}"], "keys": ["key 4"], "terms": [],
        },
    ]  # fmt: skip
    assert names_of(made) == {0: "dog, river", 1: "cluster 1"}
    assert names_of(made, 1) == {0: "dog", 1: "cluster 1"}


def test_error_rows_are_counted_and_their_captions_are_not() -> None:
    sums = summed(
        [
            part([failed(1, "a") | {"captions": ["a dog"]}, failed(2, "b"), row(3, 0, captions=["a cat"])]),
            part([failed(4, "a")]),
        ]
    )
    assert sums.excluded == {"a": 2, "b": 1}
    table = sums.table(PERSISTENCE, SETTINGS)
    assert table["size"].to_pylist() == [1] and table["share"].to_pylist() == [1.0]
    assert table["terms"].to_pylist() == [["cat"]]


def test_only_error_rows_and_nothing_at_all() -> None:
    for sums in (summed([part([failed(1, "a")])]), summed([part([])]), Sums()):
        table = sums.table([], SETTINGS)
        assert table.schema.equals(CLUSTERS) and len(table) == 0
        assert names_of(table) == {}


def test_exemplars_are_the_densest() -> None:
    strengths = np.random.default_rng(0).permutation(50) / 64
    parts = [
        part([row(number, 0, float(strengths[number])) for number in range(a, a + 10)])
        for a in range(0, 50, 10)
    ]
    found = summed(parts).table(PERSISTENCE, SETTINGS)["exemplars"].to_pylist()[0]
    assert found == [f"{number:016x}" for number in np.argsort(-strengths)[:3]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_equally_dense_ones_the_seed_chooses(seed: int) -> None:
    numbers = np.arange(100, dtype=np.uint64)
    parts = [part([row(int(number), 0) for number in piece]) for piece in np.split(numbers, 4)]
    expected = [f"{number:016x}" for number in numbers[np.argsort(lots(numbers, seed))[:3]].tolist()]
    assert summed(parts, seed).table(PERSISTENCE, SETTINGS)["exemplars"].to_pylist() == [expected]
    assert summed(parts[::-1], seed).table(PERSISTENCE, SETTINGS)["exemplars"].to_pylist() == [expected]
    assert expected != [f"{number:016x}" for number in range(3)]


def test_each_image_has_its_captions() -> None:
    table, captions = part([row(1, 0), row(2, 0)])
    with pytest.raises(ValueError):
        Sums().add(table, captions[:1], SETTINGS, 0)
