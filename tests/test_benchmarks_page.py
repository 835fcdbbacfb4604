from benchmarks.__main__ import NAMES, page, read_sections, section


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
