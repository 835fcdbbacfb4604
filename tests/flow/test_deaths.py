import pytest

from engine.flow.deaths import MAX_CONVICTED, MAX_DEATHS, PROBE, Case, Deaths, slices


def turn(deaths: Deaths, rows: int, culprits: set[int], engine_works: bool = True) -> Case | None:
    """One turn of the part "a" alone at an engine; its case if it came through."""
    case = deaths.begin_alone("a")
    if case.outage or case.given_up:
        return case
    deaths.at_engine("a", PROBE)
    if not engine_works:
        return None
    good = [row for row in range(rows) if row not in case.convicted]
    for some in slices(good, case.suspects):
        deaths.at_engine("a", some)
        if culprits & set(some):
            return None
    return case


def test_parts_that_were_merely_there_are_not_blamed() -> None:
    deaths = Deaths()
    assert deaths.begin("a") and deaths.begin("b")
    # The engine dies, and both come again, alone.
    assert not deaths.begin("a") and not deaths.begin("b")
    for part in "ab":
        assert deaths.begin_alone(part) == Case(at_engine=PROBE)
        deaths.end(part)
    assert deaths.begin("a")


@pytest.mark.parametrize("culprits", [{0}, {0, 1, 2}, {17, 60}, {16, 17, 18}, {97, 98, 99}])
def test_rows_that_kill_engines_are_found_and_the_others_go_on(culprits: set[int]) -> None:
    deaths, engines, case = Deaths(), 0, None
    while case is None:
        engines += 1
        case = turn(deaths, 100, culprits)
    assert set(case.convicted) == culprits and not case.given_up and not case.outage
    assert engines == 1 + 2 * len(culprits), "two engines a culprit, and one that lives"


def test_a_part_full_of_rows_that_kill_is_given_up() -> None:
    deaths, engines, case = Deaths(), 0, None
    while case is None:
        engines += 1
        case = turn(deaths, 100, set(range(100)))
    assert case.given_up and not case.outage and engines == 1 + 2 * (MAX_CONVICTED + 1)


def test_deaths_that_no_row_is_to_blame_for_give_the_part_up() -> None:
    deaths = Deaths()
    for _ in range(MAX_DEATHS):
        assert not deaths.begin_alone("a").given_up
        deaths.at_engine("a", [1, 2, 3])
    assert deaths.begin_alone("a").given_up


def test_an_engine_that_answers_nothing_blames_no_part() -> None:
    deaths, engines, case = Deaths(), 0, None
    deaths.died("poet", "no server at that address")
    while case is None:
        engines += 1
        case = turn(deaths, 1, set(), engine_works=False)
    assert case.outage and not case.given_up and not case.convicted and engines == 1 + MAX_DEATHS
    assert deaths.reason("poet") == "no server at that address" != deaths.reason("seer")


def test_an_engine_that_answers_in_between_is_no_outage() -> None:
    deaths = Deaths()
    for _ in range(3):
        for _ in range(MAX_DEATHS - 1):
            assert turn(deaths, 9, {4}, engine_works=False) is None
        turn(deaths, 9, {4})
    case = turn(deaths, 9, {4})
    assert case is not None and case.convicted == (4,) and not case.outage


def test_many_parts_at_once_on_new_engines_are_no_outage() -> None:
    """A node with all its actors is lost, and their parts come back before any engine has answered."""
    deaths, parts = Deaths(), [f"{number}" for number in range(16)]
    for part in parts:
        deaths.begin(part)
    assert not any(deaths.begin(part) for part in parts)
    assert not any(deaths.begin_alone(part).outage for part in parts)


def test_slices_show_every_row_once() -> None:
    assert slices(range(10), (4, 5)) == [[4], [5], [0, 1, 2], [3, 6, 7], [8, 9]]
    assert slices([], (4,)) == []
    assert slices([3], ()) == [[3]]
