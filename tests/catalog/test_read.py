from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalog import PART_TABLE, ranges, read_part
from engine.catalog.ranges import MAX_GAP, MAX_SPAN, merge, read_ranges
from engine.catalog.tables import GROUP_ROWS, file_name
from engine.errors import StorageError
from tests.catalog.sets import catalog_all, entries, picture, tar_bytes, webdataset


@given(st.lists(st.tuples(st.integers(0, 4 * MAX_SPAN), st.integers(1, MAX_SPAN)), max_size=30))
def test_spans_hold_every_range_and_stay_small(wanted: list[tuple[int, int]]) -> None:
    spans = list(merge(wanted))
    assert sorted(index for span in spans for index in span.ranges) == list(range(len(wanted)))
    for span in spans:
        for index in span.ranges:
            offset, size = wanted[index]
            assert span.start <= offset and offset + size <= span.end
        assert span.end - span.start <= MAX_SPAN or len(span.ranges) == 1
    for one, two in pairwise(spans):
        assert one.start <= two.start


def test_neighbours_share_a_read() -> None:
    near, far = (0, 100), (100 + MAX_GAP, 100)
    assert len(list(merge([near, far]))) == 1
    assert len(list(merge([near, (far[0] + 1, 100)]))) == 2


def test_ranges_in_any_order_and_past_the_end() -> None:
    file = pa.BufferReader(bytes(range(100)))
    pieces = read_ranges(file, [(50, 2), (3, 1), (99, 5), (200, 5)])
    assert [piece.to_pybytes() for piece in pieces] == [bytes([50, 51]), b"\3", b"c", b""]


def test_few_pieces_of_a_wide_span_do_not_hold_it(tmp_path: Path) -> None:
    (tmp_path / "wide").write_bytes(bytes(MAX_GAP * 9))
    file, before = pa.OSFile(str(tmp_path / "wide")), pa.total_allocated_bytes()
    apart = read_ranges(file, [(n * MAX_GAP, 100) for n in range(9)])
    assert pa.total_allocated_bytes() - before < MAX_GAP and {piece.size for piece in apart} == {100}
    together = read_ranges(file, [(n * MAX_GAP, MAX_GAP - 100) for n in range(9)])
    assert pa.total_allocated_bytes() - before > 8 * MAX_GAP and len(together) == 9


def test_a_part_of_a_tar_is_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes(entries(40)))
    tables, _ = catalog_all(webdataset(tmp_path / "a.tar"), tmp_path / "catalog")
    reads: list[int] = []
    original = ranges._read
    monkeypatch.setattr(ranges, "_read", lambda f, s: (reads.append(s.end - s.start), original(f, s))[1])
    table = read_part(tables.directory / file_name("a.tar"), 10, 20)
    assert len(reads) == 1
    assert table.schema == PART_TABLE and table.num_rows == 20
    assert table["image"].to_pylist() == [picture(n) for n in range(10, 30)]


def test_parts_across_row_groups_of_the_catalog(tmp_path: Path) -> None:
    count = 2 * GROUP_ROWS + 10
    (tmp_path / "a.tar").write_bytes(tar_bytes((f"{n}.png", b"%d" % n) for n in range(count)))
    tables, _ = catalog_all(webdataset(tmp_path / "a.tar"), tmp_path / "catalog")
    place = tables.directory / file_name("a.tar")
    for start, rows in ((0, 3), (GROUP_ROWS - 2, 4), (GROUP_ROWS, GROUP_ROWS), (count - 5, 5), (0, count)):
        images = read_part(place, start, rows)["image"].to_pylist()
        assert images == [b"%d" % n for n in range(start, start + rows)]
    with pytest.raises(StorageError, match="has no rows"):
        read_part(place, count - 1, 2)
    with pytest.raises(StorageError, match="does not exist"):
        read_part(tables.directory / "none.parquet", 0, 1)
