"""Room for workers, as the scheduler sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from engine.errors import StorageError
from engine.recipe.finetune import Finetune
from engine.training import seats
from engine.training.seats import Seats, give_back, room

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]


def settings(least: int, most: int) -> Finetune:
    return Finetune.model_validate({"model": "open_clip:terrarium", "workers": [least, most]})


def until_granted(asked: Seats) -> None:
    end = time.monotonic() + 60
    while not asked.granted():
        assert time.monotonic() < end, "no seat was granted"
        time.sleep(0.05)


@pytest.fixture
def one_left() -> Iterator[None]:
    """Another user of the cluster has reserved all of its processors but one."""
    count = int(ray.cluster_resources()["CPU"]) - 1
    taken = placement_group([{"CPU": count}])
    assert taken.wait(30)
    yield
    remove_placement_group(taken)


def test_there_is_room_for_as_many_as_have_processors() -> None:
    count = int(ray.cluster_resources()["CPU"])
    assert room(settings(1, count + 3), print) == count
    assert room(settings(1, 2), print) == 2
    # A fixed number is left to Ray, which waits for it.
    assert room(settings(count + 1, count + 1), print) == count + 1


def test_what_others_have_reserved_is_no_room(one_left: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert room(settings(1, 4), print) == 1
    monkeypatch.setattr(seats, "_SAY_S", 0.5)
    monkeypatch.setattr(seats, "_GIVE_UP_S", 5.0)
    said = list[str]()
    with pytest.raises(StorageError, match=r"finetune\.workers is \[2, 4\].* room for 1 of at least 2"):
        room(settings(2, 4), said.append)
    assert "waiting: the cluster has room for 1 of at least 2 workers (finetune.workers)" in said


def test_seats_of_a_process_that_died_are_given_back(one_left: None) -> None:
    held = Seats(1, {"CPU": 1}, "held")
    until_granted(held)
    waiting = Seats(1, {"CPU": 1}, "waiting")
    assert waiting.granted() == 0
    give_back("held", 3)
    until_granted(waiting)
    give_back("waiting", 1)
