from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import StorageError
from engine.schema import DESCRIBE
from engine.storage import Location, StageTables, locate


def table(*errors: str | None) -> pa.Table:
    rows = [{"id": str(n), "key": "k", "description": "d", "error": e} for n, e in enumerate(errors)]
    return pa.Table.from_pylist(rows, schema=DESCRIBE)


def names(tables: StageTables) -> list[str]:
    return sorted(path.name for path in Path(tables.directory.uri).iterdir())


@pytest.fixture
def tables(tmp_path: Path) -> StageTables:
    return StageTables.of(locate(tmp_path), "describe", "1f3a90c2")


def test_presence_means_done(tables: StageTables, tmp_path: Path) -> None:
    assert tables.done() == set() and tables.read("p", DESCRIBE) is None
    tables.commit("p", table(None, None))
    assert tables.done() == {"p"} and tables.failed() == set()
    assert tables.read("p", DESCRIBE) == table(None, None)
    assert (tmp_path / "stages" / "describe-1f3a90c2" / "p.parquet").is_file()


def test_a_note_says_what_failed_until_a_retry_succeeds(tables: StageTables) -> None:
    tables.commit("p", table(None, "refused", "zero bytes", "refused"))
    assert (tables.done(), tables.failed()) == ({"p"}, {"p"})
    assert tables.failures("p") == {"refused": 2, "zero bytes": 1}
    tables.commit("p", table(None, None, "zero bytes", None), replace=True)
    assert tables.failures("p") == {"zero bytes": 1}
    tables.commit("p", table(None, None, None, None), replace=True)
    assert (tables.done(), tables.failed(), tables.failures("p")) == ({"p"}, set(), {})
    assert names(tables) == ["p.parquet"]


def test_one_listing_tells_what_is_done_and_what_failed(tables: StageTables) -> None:
    for part, errors in (("b", ("refused",)), ("a", (None,)), ("c", ("refused", "zero bytes"))):
        tables.commit(part, table(*errors))
    assert tables.listed() == ({"a", "b", "c"}, {"b", "c"})
    notes = list(tables.failures_of({"c", "b", "a"}))
    assert notes == [("a", {}), ("b", {"refused": 1}), ("c", {"refused": 1, "zero bytes": 1})]


def test_a_crash_between_note_and_table(tables: StageTables, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Location, "write_table", die)
        tables.commit("p", table("refused"))
    assert tables.done() == set(), "no table, so the part is done again"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Location, "delete", die)
        tables.commit("p", table(None))
    assert (tables.done(), tables.failed()) == ({"p"}, {"p"}), "a note too many, which a retry deletes"
    tables.commit("p", table(None), replace=True)
    assert tables.failed() == set()


def test_two_writers_leave_one_table(tables: StageTables) -> None:
    tables.commit("p", table(None))
    first = tables.table("p").read_bytes()
    tables.commit("p", table(None))
    assert tables.table("p").read_bytes() == first and names(tables) == ["p.parquet"]


def test_notes_are_invisible_to_readers_of_directories(tables: StageTables) -> None:
    import pyarrow.dataset as ds

    tables.commit("p", table(None, "refused"))
    tables.commit("q", table(None))
    assert ds.dataset(tables.directory.uri, format="parquet").count_rows() == 3


def test_another_stages_table_is_refused(tables: StageTables) -> None:
    tables.table("p").write_table(pa.table({"a": [1]}))
    with pytest.raises(StorageError, match=r"p\.parquet: holds other columns .* delete it"):
        tables.read("p", DESCRIBE)


def test_the_first_of_two_writers_stands(tables: StageTables) -> None:
    first = tables.commit("p", table(None, None))
    second = tables.commit("p", table("refused", None))
    assert second.equals(first) and tables.failed() == set()
    third = tables.commit("p", table("refused", None), replace=True)
    assert third["error"].to_pylist() == ["refused", None] and tables.failed() == {"p"}


def test_a_writer_that_is_overtaken_takes_the_other_table(
    tables: StageTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one commits after this one has looked and before it writes."""
    real = Location.write_table

    def overtaken(place: Location, made: pa.Table, replace: bool) -> bool:
        monkeypatch.setattr(Location, "write_table", real)
        tables.commit("p", table("first", None))
        return real(place, made, replace=replace)

    monkeypatch.setattr(Location, "write_table", overtaken)
    stands = tables.commit("p", table(None, "second"))
    assert stands["error"].to_pylist() == ["first", None] == tables.read("p", DESCRIBE)["error"].to_pylist()
    assert set(tables.failures("p")) >= {"first"}, "a note may be out of date, but not missing"


def test_error_rows_are_never_without_a_note(tables: StageTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean writer deletes the note after another one wrote error rows: it puts a note back."""
    tables.commit("p", table("refused"))
    real = Location.write_table

    def overtaken(place: Location, made: pa.Table, replace: bool) -> bool:
        real(place, made, replace=replace)
        monkeypatch.setattr(Location, "write_table", real)
        return tables.table("p").write_table(table("late"))

    monkeypatch.setattr(Location, "write_table", overtaken)
    tables.commit("p", table(None), replace=True)
    assert tables.failures("p") == {"late": 1}


def test_tables_out_of_the_plan_are_set_aside_and_come_back(tables: StageTables) -> None:
    for part in ("a", "b"):
        tables.commit(part, table("refused"))
    assert tables.set_aside({"b"}) == (1, 0)
    assert (tables.done(), tables.failed()) == ({"b"}, {"b"})
    assert tables.set_aside({"a", "b"}) == (0, 1)
    assert (tables.done(), tables.failed()) == ({"a", "b"}, {"a", "b"})


def test_a_table_of_other_length_is_refused(tables: StageTables) -> None:
    made = tables.commit("p", table(None, None))
    with pytest.raises(StorageError, match="holds 2 rows of 3"):
        tables.read("p", made.schema, rows=3)
