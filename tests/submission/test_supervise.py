from __future__ import annotations

from itertools import product

import pytest

from engine.errors import RecipeError, StorageError
from engine.submission.naming import Kind, RunJobs
from engine.submission.service import Request
from tests.submission.cluster import (
    BROKEN,
    DIED,
    DONE,
    KILLED,
    LOST,
    REFUSED,
    RUN,
    STOPPED,
    TOO_MANY,
    Cluster,
    End,
    Watched,
    refused,
)

FINAL = {DONE: 0, TOO_MANY: 1, STOPPED: 130}
AGAIN = (BROKEN, KILLED, DIED, LOST)


@pytest.mark.parametrize("ends", list(product([*FINAL, REFUSED, *AGAIN], repeat=3)))
def test_every_three_ends(ends: tuple[End, ...]) -> None:
    """What is final ends it at once; a refusal is, if nothing came before it; all else is tried again."""
    cluster = Cluster(*ends)
    final = [i for i, end in enumerate(ends) if end in FINAL or (end is REFUSED and i == 0)]
    used = final[0] + 1 if final else 3
    last = ends[used - 1]
    watched = Watched(cluster)
    assert watched.supervise() == FINAL.get(last, 2 if last is REFUSED else 3)
    assert [request.id for request in cluster.requests] == [RUN.name("mine", i + 1) for i in range(used)]
    assert ("not complete after 3 attempts" in watched.text) == (not final)


def test_pauses_grow_up_to_five_minutes() -> None:
    watched = Watched(Cluster(*[End(KILLED.phase, -9, asked=1)] * 8, DONE), attempts=9)
    assert watched.supervise() == 0
    assert watched.slept[:8] == [10, 20, 40, 80, 160, 300, 300, 300]
    assert "attempt 2 of 9 in 10 s" in watched.text


def test_jobs_are_done_in_order_each_with_attempts_of_its_own() -> None:
    cluster = Cluster(KILLED, KILLED, DONE, LOST, LOST, DONE)
    assert Watched(cluster, ("evaluate", "finetune")).supervise() == 0
    assert [request.command for request in cluster.requests] == ["do evaluate"] * 3 + ["do finetune"] * 3


@pytest.mark.parametrize("end", [BROKEN, TOO_MANY, REFUSED, STOPPED])
def test_what_follows_a_job_that_is_not_complete_is_not_begun(end: End) -> None:
    cluster = Cluster(end, end, end)
    assert Watched(cluster, ("evaluate", "finetune")).supervise() != 0
    assert {request.command for request in cluster.requests} == {"do evaluate"}


def _calls(*ends: End) -> int:
    cluster = Cluster(*ends)
    Watched(cluster).supervise()
    return cluster.calls


@pytest.mark.parametrize("length", [1, 4])
def test_an_outage_at_any_moment_costs_no_attempt(length: int) -> None:
    calls = _calls(KILLED, LOST, DONE)
    for first in range(calls):
        cluster = Cluster(KILLED, LOST, DONE)
        cluster.before = lambda call, first=first: refused() if first <= call < first + length else None
        watched = Watched(cluster)
        assert watched.supervise() == 0, first
        assert len(cluster.requests) == 3
        assert watched.text.count("the cluster answers again") == 1
        assert watched.text.count("connection refused") == 1, "an outage is told once"


def test_a_submission_whose_answer_is_lost_is_not_made_twice() -> None:
    for first in range(_calls(KILLED, DONE)):
        cluster = Cluster(KILLED, DONE)
        cluster.after = lambda call, first=first: refused() if call == first else None
        watched = Watched(cluster)
        assert watched.supervise() == 0
        assert len(cluster.requests) == 2


def test_a_cluster_that_stays_away_ends_it_after_its_patience() -> None:
    cluster = Cluster(DONE)
    cluster.before = lambda call: refused() if call > 2 else None
    watched = Watched(cluster, patience_s=100)
    with pytest.raises(StorageError, match=r"connection refused, for 1\d\d s now.*submit the recipe again"):
        watched.supervise()
    assert 100 <= sum(watched.slept) <= 130
    assert RUN.name("mine", 1) in watched.said[-1], "what may run on is said"


def test_a_restarted_head_that_knows_nothing_is_given_the_next_attempt() -> None:
    cluster = Cluster(End(DONE.phase, 0, asked=100), DONE)

    def restart(call: int) -> None:
        if 4 <= call < 7:
            cluster.jobs.clear()
            refused()

    cluster.before = restart
    watched = Watched(cluster)
    assert watched.supervise() == 0
    assert "knows it no more" in watched.text
    assert [request.id for request in cluster.requests] == [RUN.name("mine", 1), RUN.name("mine", 2)]


def test_ctrl_c_at_any_call_says_what_runs_on() -> None:
    for first in range(_calls(KILLED, DONE)):
        cluster = Cluster(KILLED, DONE)
        cluster.before = lambda call, first=first: interrupt() if call == first else None
        watched = Watched(cluster)
        with pytest.raises(KeyboardInterrupt):
            watched.supervise()
        _check_told(cluster, watched)


def test_ctrl_c_in_any_pause_says_what_runs_on() -> None:
    clean = Watched(Cluster(KILLED, DONE))
    clean.supervise()
    for first in range(len(clean.slept)):
        cluster = Cluster(KILLED, DONE)
        watched = Watched(cluster)
        watched.at_sleep = lambda sleep, first=first: interrupt() if sleep == first else None
        with pytest.raises(KeyboardInterrupt):
            watched.supervise()
        _check_told(cluster, watched)


def test_ctrl_c_in_back_off_says_that_nothing_runs() -> None:
    watched = Watched(Cluster(End(KILLED.phase, -9, asked=1), DONE))
    watched.at_sleep = lambda sleep: interrupt()
    with pytest.raises(KeyboardInterrupt):
        watched.supervise()
    assert "nothing of the run was running" in watched.said[-1]


def interrupt() -> None:
    raise KeyboardInterrupt


def _check_told(cluster: Cluster, watched: Watched) -> None:
    for record in cluster.jobs.values():
        if not record.ended:
            assert record.id in watched.said[-1]
            assert "connote stop /data/run" in watched.said[-1]
    assert "submit the recipe again" in watched.said[-1]


def test_a_stop_from_elsewhere_is_found_after_the_pause() -> None:
    cluster = Cluster(End(KILLED.phase, -9, asked=1), DONE)
    cluster.add("old", RUN.notes(Kind.stop, "stop", 1))  # of an earlier day
    watched = Watched(cluster)
    mark = Request("new", "true", RUN.notes(Kind.stop, "stop", 2))
    watched.at_sleep = lambda sleep: cluster.submit(mark) if sleep == 0 else None
    assert watched.supervise() == 130
    assert "stopped while it waited" in watched.text
    assert len(cluster.requests) == 2, "the attempt and the mark"


def test_the_stop_of_another_run_and_an_old_one_are_not_heeded() -> None:
    cluster = Cluster(KILLED, DONE)
    cluster.add("old", RUN.notes(Kind.stop, "stop", 1))
    watched = Watched(cluster)
    other = Request("other", "true", RunJobs("/data/other").notes(Kind.stop, "stop", 1))
    watched.at_sleep = lambda sleep: cluster.submit(other) if sleep == 0 else None
    assert watched.supervise() == 0


def test_an_old_stop_does_not_end_the_supervision_of_a_running_attempt() -> None:
    cluster = Cluster(DONE)
    cluster.add("old", RUN.notes(Kind.stop, "stop", 1))
    cluster.add("theirs", RUN.notes(Kind.attempt, "mine", 1), KILLED)
    assert Watched(cluster).supervise() == 0


def test_a_stop_under_an_old_name_after_the_head_was_restarted_is_found() -> None:
    killed = End(KILLED.phase, -9, asked=1)
    cluster = Cluster(killed, killed, DONE)
    mark = Request("stop-1", "true", RUN.notes(Kind.stop, "stop", 1))
    cluster.add(mark.id, dict(mark.notes))
    watched = Watched(cluster)

    def at_sleep(sleep: int) -> None:
        if sleep == 0:
            cluster.jobs.clear()
        else:
            cluster.submit(mark)

    watched.at_sleep = at_sleep
    assert watched.supervise() == 130


def test_a_running_attempt_is_followed_and_counts() -> None:
    cluster = Cluster(KILLED, DONE)
    cluster.add("theirs", {**RUN.notes(Kind.attempt, "mine", 4), "connote_host": "far"}, KILLED)
    watched = Watched(cluster)
    assert watched.supervise() == 0
    assert "theirs is running (submitted on far); following it" in watched.text
    assert [request.id for request in cluster.requests] == [RUN.name("mine", 5), RUN.name("mine", 6)]


def test_a_running_attempt_of_a_later_job_is_followed_first() -> None:
    cluster = Cluster(DONE)
    cluster.add("theirs", RUN.notes(Kind.attempt, "finetune", 1))
    assert Watched(cluster, ("evaluate", "finetune", "last")).supervise() == 0
    assert [request.command for request in cluster.requests] == ["do last"]


def test_of_two_supervisors_one_submits_and_the_other_follows() -> None:
    cluster = Cluster(KILLED, DONE)
    watched = Watched(cluster)
    # Another one takes its turn between the first's look and its submission.
    turn = iter([True])

    def race(call: int) -> None:
        if call == 2 and next(turn, False):
            cluster.submit(Request(RUN.name("mine", 1), "do mine", RUN.notes(Kind.attempt, "mine", 1)))

    cluster.before = race
    assert watched.supervise() == 0
    assert "is there already; following it" in watched.text
    assert [request.id for request in cluster.requests] == [RUN.name("mine", 1), RUN.name("mine", 2)]


def test_the_log_is_shown_once_though_its_connection_breaks() -> None:
    pieces = ("first ", "line\nsecond ", "line\n")

    class Breaking(Cluster):
        times = 0

        def tail(self, id: str):  # type: ignore[no-untyped-def]
            self.times += 1
            yield from pieces[: self.times]

    watched = Watched(Breaking(End(DONE.phase, 0, asked=4)))
    assert watched.supervise() == 0
    assert "".join(watched.shown) == "".join(pieces)


def test_a_connection_that_outlives_its_job_is_left() -> None:
    class Hanging(Cluster):
        def tail(self, id: str):  # type: ignore[no-untyped-def]
            yield "something\n"
            while True:
                yield ""

    for end in (KILLED, LOST):
        watched = Watched(Hanging(end, DONE))
        assert watched.supervise() == 0
        assert watched.shown == ["something\n"] * 2


def test_what_the_cluster_refuses_is_no_matter_of_attempts() -> None:
    cluster = Cluster(DONE)

    def refuse(call: int) -> None:
        if call == 2:
            raise RecipeError("the cluster refuses job")

    cluster.before = refuse
    with pytest.raises(RecipeError):
        Watched(cluster).supervise()
