"""Records of delimited text: chunk by chunk, and each from its own bytes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalog import discover, forward
from engine.catalog.caption_table import CaptionTable, merged
from engine.catalog.delimited import _lines, parse_record, read_records
from engine.errors import RecipeError
from engine.storage import Location, locate
from tests.catalog.captioned import table, tsv


def test_a_line_without_end_is_not_read_whole(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.catalog.delimited._LONGEST_LINE", 2**21)
    with made.open("wb") as file:
        file.write(b"filepath\ttitle\n")
        file.truncate(2**33)  # eight gigabytes of nothing, on a file with holes
    with pytest.raises(RecipeError, match=r"line 2 is no row of a table \(it is longer than 2 MiB\)"):
        discover(tsv(made))


FIELDS = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8)


@given(
    st.lists(st.lists(FIELDS, min_size=2, max_size=4), min_size=1, max_size=6),
    st.sampled_from("\t,"),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 9),
    st.booleans(),
)
def test_records_are_those_of_the_whole_text(
    rows: list[list[str]], separator: str, end: str, chunk: int, marked: bool
) -> None:
    """However the file is cut into chunks; and each record's bytes give its fields again."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    data = (b"\xef\xbb\xbf" if marked else b"") + text.getvalue().encode()
    pieces = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    assert b"".join(_lines(iter(pieces))) == data
    place = Location("memory.tsv" if separator == "\t" else "memory.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.catalog.delimited.chunks_of", lambda _: iter(pieces))
        patch.setattr(Location, "resolve", lambda _: (Opened(), ""))
        records = list(read_records(place))
    if not text.getvalue().startswith("\ufeff"):
        assert [record.fields for record in records] == rows
    for record in records:
        assert data[record.start : record.start + len(record.data)] == record.data
        if record.start:
            assert parse_record(place, record.data) == record.fields


class Opened:
    """A filesystem with one file, which nobody reads."""

    def open_input_file(self, path: str) -> Opened:
        return self

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_table_is_read_a_chunk_at_a_time(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come before the file has been read to its end, and no row is kept."""
    table(made, [(f"images/{n}.jpg", "x" * 100, "y") for n in range(2000)])
    monkeypatch.setattr(forward, "CHUNK", 4096)
    read: list[int] = []
    chunks_of = forward.chunks_of
    monkeypatch.setattr(
        "engine.catalog.delimited.chunks_of",
        lambda file: (read.append(len(chunk)) or chunk for chunk in chunks_of(file)),
    )
    opened = CaptionTable.open(locate(made), str(made.parent), tsv(made))
    assert sum(read) == 4096
    read.clear()
    # Had all been read before the first row came, this would not hold.
    behind = [row.start + 2 * 4096 - sum(read) for row in opened.rows()]
    assert len(behind) == 2000 and min(behind) >= 0


def test_merging_rows() -> None:
    assert merged([{"a": "1", "b": "2"}, {"a": "1", "c": "3"}]) == {
        "a": "1",
        "b": ["2", None],
        "c": [None, "3"],
    }
    assert merged([]) == {}
