import pytest

from benchmarks.__main__ import NAMES, page, read_sections, section
from benchmarks.outcome import main
from benchmarks.train_speed import judge


def test_a_section_is_renewed_and_the_others_stay() -> None:
    printed = (
        "catalog 3/3\n  rounds: 1 2 3\nscaling ratio=0.97 floor=0.95 against=linear_from_1_to_16_actors\n"
    )
    first = page({"scaling": section("scaling", printed)})
    assert "| [scaling](#scaling) | linear from 1 to 16 actors | **0.97** | 0.95 |" in first
    assert "rounds: 1 2 3" in first and "catalog" not in first
    assert page(read_sections(first)) == first
    second = page({**read_sections(first), "engine_overhead": "About.\n\n```\nnothing\n```"})
    assert list(read_sections(second)) == ["engine_overhead", "scaling"]
    assert read_sections(second)["scaling"] == read_sections(first)["scaling"]


def test_every_benchmark_is_there_and_says_what_it_compares() -> None:
    for name in NAMES:
        assert len(section(name, "").split("\n\n")[0]) > 40, name


@pytest.mark.parametrize(("ratio", "waiting", "status"), [(1.5, 0.02, 0), (0.9, 0.02, 1), (1.5, 0.06, 1)])
def test_train_speed_fails_by_either_of_its_goals(
    ratio: float,
    waiting: float,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["train_speed"])
    with pytest.raises(SystemExit) as ended:
        main(lambda quick: judge([ratio], [waiting]))
    assert ended.value.code == status
    rows = page({"train_speed": section("train_speed", capsys.readouterr().out)})
    assert f"| open clip train | **{ratio:g}** | 1 |" in rows
    assert f"| never waiting | **{1 - waiting:g}** | 0.95 |" in rows
