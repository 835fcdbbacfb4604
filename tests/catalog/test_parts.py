from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalog import Catalogued, plan_parts
from engine.catalog.parts import part_name, slice_rows
from engine.errors import StorageError
from engine.schema import CATALOG, PLAN
from engine.storage import Location, locate


def header(name: str = "a.tar", digest: str = "d", rows: int = 0) -> Catalogued:
    return Catalogued(f"{name}.parquet", name, f"/x/{name}", "tar", "s", digest, "", rows, 0, ())


def put_sizes(directory: Location, shard: Catalogued, sizes: list[int]) -> None:
    empty = {"id": "", "key": "", "uri": "", "offset": 0, "captions": []}
    rows = [{**empty, "size": size} for size in sizes]
    (directory / shard.file).write_table(pa.Table.from_pylist(rows, schema=CATALOG))


@given(st.lists(st.integers(0, 50), max_size=200), st.integers(1, 20), st.integers(1, 120))
def test_slices_cover_every_row_once_within_the_limits(sizes: list[int], rows: int, size: int) -> None:
    bounds = slice_rows(np.array(sizes, dtype=np.int64), rows, size).tolist()
    assert bounds[0] == 0 and bounds[-1] == len(sizes)
    for start, end in pairwise(bounds):
        assert 1 <= end - start <= rows
        assert sum(sizes[start:end]) <= size or end - start == 1
        # As long as the limits allow: one row more would break one of them, or is not there.
        assert end == len(sizes) or end - start == rows or sum(sizes[start : end + 1]) > size


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 9), max_size=20), min_size=1, max_size=5), st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_shards(
    tmp_path_factory: object, shards: list[list[int]], random: object
) -> None:
    directory = locate(tmp_path_factory.mktemp("catalog"))  # type: ignore[attr-defined]
    headers = [header(f"{n}.tar") for n in range(len(shards))]
    for shard, sizes in zip(headers, shards, strict=True):
        put_sizes(directory, shard, sizes)
    plan = plan_parts(directory, headers, 4, 20)
    random.shuffle(headers)  # type: ignore[attr-defined]
    assert plan_parts(directory, headers, 4, 20) == plan
    assert plan.schema == PLAN
    assert sum(plan["rows"].to_pylist()) == sum(map(len, shards))
    assert sum(plan["bytes"].to_pylist()) == sum(map(sum, shards))
    assert len(set(plan["part"].to_pylist())) == len(plan)


def test_names_follow_shard_content_and_slice() -> None:
    names = {
        part_name(header(), 0, 4),
        part_name(header("b.tar"), 0, 4),
        part_name(header(digest="e"), 0, 4),
        part_name(header(), 4, 4),
        part_name(header(), 0, 3),
    }
    assert len(names) == 5
    assert part_name(header(), 512, 4).startswith("part-000512-")


def test_appending_to_a_shard_of_the_same_digest_mode_changes_its_parts_only(tmp_path: Path) -> None:
    directory = locate(tmp_path)
    one, two = header("1.tar", "x"), header("2.tar", "y")
    for shard in (one, two):
        put_sizes(directory, shard, [1] * 10)
    before = plan_parts(directory, [one, two], 5, 100)["part"].to_pylist()
    after = plan_parts(directory, [one, header("2.tar", "z")], 5, 100)["part"].to_pylist()
    assert before[:2] == after[:2] and not set(before[2:]) & set(after[2:])
    assert plan_parts(directory, [], 5, 100).schema == PLAN


Sizes = st.lists(st.integers(0, 9), max_size=20)


@settings(max_examples=30)
@given(
    st.dictionaries(st.sampled_from("abcde"), Sizes, max_size=5),
    st.dictionaries(st.sampled_from("abcde"), Sizes, max_size=5),
    st.sampled_from([(4, 20), (5, 20), (4, 19)]),
)
def test_a_plan_made_from_an_earlier_one_is_the_same(
    tmp_path_factory: object,
    first: dict[str, list[int]],
    second: dict[str, list[int]],
    limits: tuple[int, int],
) -> None:
    """Whatever shards came, went or changed, and whether the limits are the same."""
    directory = locate(tmp_path_factory.mktemp("catalog"))  # type: ignore[attr-defined]

    def catalog(shards: dict[str, list[int]]) -> list[Catalogued]:
        headers = [header(name, str(sizes), len(sizes)) for name, sizes in shards.items()]
        for shard in headers:
            put_sizes(directory, shard, shards[shard.name])
        return headers

    kept = plan_parts(directory, catalog(first), 4, 20)
    (directory / "plan").write_table(kept)
    headers = catalog(second)
    plan = plan_parts(directory, headers, *limits)
    again = plan_parts(directory, headers, *limits, kept=(directory / "plan").read_table())
    assert again.equals(plan, check_metadata=True)


def test_nothing_is_read_of_a_shard_that_is_in_the_kept_plan(tmp_path: Path) -> None:
    directory, one, two = locate(tmp_path), header("1.tar", rows=10), header("2.tar", rows=10)
    for shard in (one, two):
        put_sizes(directory, shard, [1] * 10)
    kept = plan_parts(directory, [one, two], 4, 100)
    (directory / one.file).delete()
    assert plan_parts(directory, [one, two], 4, 100, kept=kept).equals(kept)
    assert plan_parts(directory, [one, replace(two, digest="e")], 4, 100, kept=kept)[:3].equals(kept[:3])
    for changed in (replace(one, digest="e"), replace(one, rows=11), replace(one, name="3.tar")):
        with pytest.raises(StorageError, match=r"1\.tar\.parquet: does not exist"):
            plan_parts(directory, [changed, two], 4, 100, kept=kept)
    with pytest.raises(StorageError, match=r"1\.tar\.parquet: does not exist"):
        plan_parts(directory, [one, two], 5, 100, kept=kept)
