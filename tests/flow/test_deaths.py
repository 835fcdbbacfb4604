from engine.flow.deaths import MAX_CONVICTED, MAX_DEATHS, Deaths, slices


def test_only_a_part_that_begins_alone_is_blamed_again() -> None:
    deaths = Deaths()
    assert deaths.begin("a", alone=False).deaths == 0
    # The engine dies: both parts that were there come again.
    assert deaths.begin("a", alone=False).deaths == 1
    assert deaths.begin("a", alone=False).deaths == 1
    assert deaths.begin("a", alone=True).deaths == 1
    assert deaths.begin("a", alone=True).deaths == 2
    deaths.end("a", came_through=True)
    assert deaths.begin("a", alone=False).deaths == 0


def test_deaths_in_a_row_over_several_parts_are_an_outage() -> None:
    deaths = Deaths()
    deaths.died("no server at that address")
    verdicts = []
    for part in ("a", "b", "c"):
        deaths.begin(part, alone=False)
        for _ in range(MAX_DEATHS):
            verdicts.append(deaths.begin(part, alone=True))
        deaths.end(part, came_through=False)
    assert [verdict.outage for verdict in verdicts[: 2 * MAX_DEATHS]] == [None] * 2 * MAX_DEATHS
    assert verdicts[2 * MAX_DEATHS].outage == ("a", "b")
    assert verdicts[-1].reason == "no server at that address"


def test_a_part_that_comes_through_ends_the_row() -> None:
    deaths = Deaths()
    for index in range(4 * MAX_DEATHS):
        deaths.begin(f"{index}", alone=False)
        assert deaths.begin(f"{index}", alone=True).outage is None
        deaths.end(f"{index}", came_through=True)


def test_a_row_that_kills_engines_is_found_and_the_others_go_on() -> None:
    deaths, rows, culprits = Deaths(), list(range(100)), {17, 60}
    deaths.begin("a", alone=False)
    engines, over = 0, False
    while not over:
        engines += 1
        verdict = deaths.begin("a", alone=True)
        assert not verdict.given_up and verdict.outage is None
        good = [row for row in rows if row not in verdict.convicted]
        for some in slices(good, verdict.suspects):
            deaths.at_engine("a", some)
            if culprits & set(some):
                break
        else:
            over = True
    assert set(verdict.convicted) == culprits
    assert engines == 1 + 2 * len(culprits), "two engines a culprit, after the one that they shared"


def test_a_part_full_of_rows_that_kill_is_given_up() -> None:
    deaths = Deaths()
    deaths.begin("a", alone=False)
    for row in range(MAX_CONVICTED + 1):
        assert not deaths.begin("a", alone=True).given_up
        deaths.at_engine("a", [row])
    assert deaths.begin("a", alone=True).given_up


def test_an_outage_blames_single_rows_only_until_it_is_known() -> None:
    """Parts of one row: each would be convicted by the first engine that dies on it alone."""
    deaths, verdicts = Deaths(), []
    for part in "abcdefgh":
        deaths.begin(part, alone=False)
        verdicts.append(deaths.begin(part, alone=True))
        deaths.at_engine(part, [0])
        verdicts.append(deaths.begin(part, alone=True))
        assert verdicts[-1].convicted == (0,)
        if verdicts[-1].outage is not None:
            break
        deaths.end(part, came_through=False)
    assert verdicts[-1].outage == ("a", "b", "c")


def test_slices_show_every_row_once() -> None:
    assert slices(range(10), (4, 5)) == [[4], [5], [0, 1, 2], [3, 6, 7], [8, 9]]
    assert slices([], (4,)) == []
    assert slices([3], ()) == [[3]]
