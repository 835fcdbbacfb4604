import json
from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.stages.elements import Element, load_concreteness, read_elements


def test_elements_are_distinct_and_limited() -> None:
    items = [{"word": w, "pos": "noun"} for w in ("Fox", "fox ", "kite", "tree")]
    elements, reason = read_elements(json.dumps({"elements": items}), count=2)
    assert reason is None
    assert elements == [Element("fox", "noun"), Element("kite", "noun")]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"elements": 3}', '{"elements": [{"pos": "noun"}]}', "{", "[" * 10**5]
)
def test_other_json_is_refused(text: str) -> None:
    assert read_elements(text, 5) == (None, "elements are not the JSON asked for")


def test_no_element_is_refused() -> None:
    assert read_elements('{"elements": [{"word": "..", "pos": "noun"}]}', 5) == (None, "no salient element")


TABLE = """Word\tBigram\tConc.M\tDom_Pos
cat\t0\t4.86\tNoun
sit\t0\t4.0\tVerb
mat\t0\t4.9\tNoun
quickly\t0\t2.3\tAdverb
idea\t0\t1.6\tNoun
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "concreteness.tsv"
    path.write_text(TABLE)
    return path


def test_the_most_concrete_content_words_are_chosen(table: Path) -> None:
    concreteness = load_concreteness(str(table))
    chosen = concreteness.choose(["The cats sit quickly on the mat, an idea."], count=3, seed=0)
    assert [element.word for element in chosen] == ["mat", "cat", "sit"]
    assert chosen[2].pos == "verb"


def test_one_caption_is_drawn_by_seed(table: Path) -> None:
    concreteness = load_concreteness(str(table))
    captions = ["a cat", "a mat"]
    drawn = {concreteness.choose(captions, 5, seed)[0].word for seed in range(20)}
    assert drawn == {"cat", "mat"}
    assert concreteness.choose(captions, 5, 3) == concreteness.choose(captions, 5, 3)
    assert concreteness.choose([], 5, 0) == []


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Word,Score\ncat,1\n")
    with pytest.raises(RecipeError, match=r"no column Conc.M.*found Word, Score"):
        load_concreteness(str(path))
    path.write_text("Word,Conc.M\ncat,high\n")
    with pytest.raises(RecipeError, match="line 2"):
        load_concreteness(str(path))


def test_a_byte_order_mark_hides_no_column(tmp_path: Path, table: Path) -> None:
    marked = tmp_path / "marked.tsv"
    marked.write_text(TABLE, encoding="utf-8-sig")
    assert load_concreteness(str(marked)) == load_concreteness(str(table))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mat", "the cell of column Conc.M is missing"),
        ("mat,4.9", "the cell of column Dom_Pos is missing"),
        (",4.9,Noun", "Word is empty"),
        ("mat,,Noun", "Conc.M is not a number"),
        ("mat,nan,Noun", "Conc.M is not a number"),
        ("mat,inf,Noun", "Conc.M is not a number"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"Word,Conc.M,Dom_Pos\ncat,4.86,\n{line}\n")
    with pytest.raises(RecipeError) as refused:
        load_concreteness(str(path))
    assert f"{path} line 3: {message}" in str(refused.value)


def test_a_cell_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Word,Conc.M\ncat,4.86\n" + "m" * 200_000)
    with pytest.raises(RecipeError, match=r"t.csv after line 2: field larger than field limit"):
        load_concreteness(str(path))
