"""Commands on several machines that meet at one lease, in simulated time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from engine.errors import StorageError
from engine.lease.lease import LEASE
from tests.lease.machines import REMOTE, TIMING, Command, Died, World, lease_of

FILE = f"{REMOTE.uri}/{LEASE}"


def overlaps(commands: list[Command]) -> list[float]:
    """For how long any two worked at the same time."""
    worked = [(c.began, c.ended) for c in commands if c.began is not None and c.ended is not None]
    return [
        min(one[1], other[1]) - max(one[0], other[0])
        for one, other in itertools.combinations(worked, 2)
        if min(one[1], other[1]) > max(one[0], other[0])
    ]


def meet(
    lots: random.Random, count: int, takes: Callable[[], float], works: float, wait: bool
) -> list[Command]:
    """Commands that start within three seconds, when all of them are through."""
    world = World()
    commands = [Command(world, lease_of(world, f"m{n}", takes), works, wait) for n in range(count)]
    for command in commands:
        world.spawn(command, at=lots.uniform(0, 3))
    world.run()
    assert FILE not in world.files, "it was given back"
    return commands


def test_of_several_that_start_at_once_one_works() -> None:
    """All requests of a claim together take less than `settle_s`: then no two ever work at a time."""
    for seed in range(150):
        lots = random.Random(seed)
        one_works(meet(lots, lots.randint(2, 4), lambda: lots.uniform(0, 0.6), works=100, wait=False))  # noqa: B023


def one_works(commands: list[Command]) -> None:
    assert sorted(c.outcome.partition(":")[0] for c in commands) == ["done"] + ["left"] * (len(commands) - 1)
    winner = next(c for c in commands if c.outcome == "done")
    assert all(f"on {winner.lease.holder.host}," in c.outcome for c in commands if c is not winner)


def test_with_a_store_that_stalls_one_is_left_in_the_end() -> None:
    """A request may take longer than `settle_s`: then a second one's work ends at its next renewal."""
    for seed in range(150):
        lots = random.Random(seed)
        commands = meet(lots, 3, lambda: lots.choice([0.05, 0.3, 1.0, 4.0]), works=300, wait=False)  # noqa: B023
        assert [c.outcome for c in commands].count("done") == 1, [c.outcome for c in commands]
        assert all(each <= TIMING.renew_s + 12 for each in overlaps(commands)), "a renewal, and its requests"


def test_those_that_wait_work_one_after_the_other() -> None:
    for seed in range(30):
        lots = random.Random(seed)
        commands = meet(lots, 3, lambda: lots.uniform(0, 0.6), works=30, wait=True)  # noqa: B023
        assert [c.outcome for c in commands] == ["done"] * 3
        assert overlaps(commands) == []
        assert any("waiting for it to end" in line for c in commands for line in c.said)


def test_a_claim_that_was_long_on_its_way_waits_for_whom_it_came_over() -> None:
    """It was sent before the other's, and came when that one's already stood."""
    world = World()
    first, second = (Command(world, lease_of(world, name), works=100) for name in ("first", "second"))
    takes = iter([0.1, 6.0] + [0.1] * 1000)
    object.__setattr__(second.lease.place, "takes", lambda: next(takes))
    world.spawn(first, at=0.05)
    world.spawn(second, at=0)
    world.run()
    assert (first.outcome, second.outcome) == ("lost", "done")
    assert overlaps([first, second]) == []


def dying(command: Command, at_request: int, before: bool) -> None:
    """Have the command's machine go out at its n-th request, before it takes effect or just after."""
    place, requests = command.lease.place, itertools.count()

    def takes() -> float:
        if next(requests) == at_request:
            if before:
                raise Died
            # The request takes effect half way through its time; then the machine is out.
            real = command.world.sleep
            halves = itertools.count()

            def sleep(seconds: float) -> None:
                if next(halves) == 1:
                    raise Died
                real(seconds)

            object.__setattr__(place, "world", _Dying(command.world, sleep))
        return 0.1

    object.__setattr__(place, "takes", takes)


class _Dying:
    def __init__(self, world: World, sleep: object) -> None:
        self.files, self.sleep = world.files, sleep


@pytest.mark.parametrize("before", [True, False])
def test_a_machine_that_goes_out_at_any_request_is_followed(before: bool) -> None:
    """While it claims, works, renews or releases; the next waits for the expiry at most."""
    for request in itertools.count():
        world = World()
        first = Command(world, lease_of(world, "first"), works=25)
        second = Command(world, lease_of(world, "second"), works=25)
        dying(first, request, before)

        def go_out(first: Command = first) -> None:
            with pytest.raises(Died):
                first()

        if first_is_through(request, before):
            break
        world.spawn(go_out, at=0)
        world.spawn(second, at=60)  # the first is gone by then
        world.run()
        assert second.outcome == "done", (request, second.outcome)
        assert second.began is not None
        assert second.began - 60 <= TIMING.expiry_s + 2 * TIMING.poll_s + TIMING.settle_s + 1
    assert request >= 12, "a claim, renewals and a release were interrupted"


def first_is_through(request: int, before: bool) -> bool:
    """Whether a command makes no more than so many requests."""
    world = World()
    command = Command(world, lease_of(world, "alone"), works=25)
    made = itertools.count()
    total = [0]

    def takes() -> float:
        total[0] = next(made) + 1
        return 0.1

    object.__setattr__(command.lease.place, "takes", takes)
    world.spawn(command, at=0)
    world.run()
    return request >= total[0]


def test_a_holder_that_slept_finds_the_others_claim_and_stops() -> None:
    world = World()
    first, second = (Command(world, lease_of(world, name), works=200) for name in ("laptop", "server"))
    sleeps = iter([0.1] * 4 + [70.0] + [0.1] * 1000)  # its fifth request, the first renewal, takes so long
    object.__setattr__(first.lease.place, "takes", lambda: next(sleeps))
    world.spawn(first, at=0)
    world.spawn(second, at=13)
    world.run()
    assert (first.outcome, second.outcome) == ("lost", "done")
    assert any("gave no sign for 45 s: going on in its place" in line for line in second.said)
    assert all(each < 45 for each in overlaps([first, second]))


def test_a_store_that_fails_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    lease = lease_of(world, "alone")
    said: list[str] = []

    def work() -> None:
        lease.acquire(False, said.append)
        real = lease.place.exists
        failing = iter([True, False])

        def exists() -> bool:
            if next(failing, False):
                raise StorageError("the store is away")
            return real()

        object.__setattr__(lease.place, "exists", exists)
        with pytest.raises(StorageError):
            lease.renew()
        assert lease.renew()

    world.spawn(work, at=0)
    world.run()
    assert lease._wrote(world.files[FILE])
