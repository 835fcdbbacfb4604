from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.errors import RecipeError, StorageError
from engine.submission import runs
from engine.submission.detached import detach, supervise_from_inside
from engine.submission.naming import Kind, RunJobs
from engine.submission.plan import Job, Plan
from engine.submission.service import Phase
from engine.submission.supervise import Voice
from tests.submission.cluster import DIED, DONE, KILLED, RUN, STOPPED, Cluster, End, refused

LONG = replace(DONE, asked=10_000)


def with_jobs(**jobs: tuple[Kind, End]) -> Cluster:
    cluster = Cluster()
    for number, (id, (kind, end)) in enumerate(jobs.items(), 1):
        cluster.add(id, {**RUN.notes(kind, "mine", number), "connote_host": "far"}, end)
    return cluster


def over(cluster: Cluster) -> Cluster:
    """The same when all that ends has ended."""
    for id in list(cluster.jobs):
        for _ in range(5):
            cluster.record(id)
    return cluster


def test_names_tell_runs_apart_and_can_be_read() -> None:
    assert RunJobs("s3://bucket/runs/coco 2017").name("mine", 3).startswith("connote-coco-2017-")
    assert RunJobs("/a/run").name("mine", 1) != RunJobs("/b/run").name("mine", 1)
    assert RunJobs("/").name("mine", 1).startswith("connote-run-")
    assert len(RunJobs("/" + "x" * 500).name("mine", 1)) < 80


def test_a_free_run_is_free() -> None:
    runs.check_free(over(with_jobs(a=(Kind.attempt, KILLED), b=(Kind.supervisor, KILLED))), RUN)
    runs.check_free(with_jobs(a=(Kind.attempt, LONG)), RUN)
    runs.check_free(with_jobs(a=(Kind.supervisor, LONG)), RunJobs("/data/other"))


def test_a_supervised_run_is_refused_with_words() -> None:
    with pytest.raises(RecipeError, match=r"supervised by job s .*far.*connote stop /data/run"):
        runs.check_free(with_jobs(s=(Kind.supervisor, LONG)), RUN)


def test_a_run_by_another_recipe_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"job a is running /data/run by another recipe"):
        runs.check_free(with_jobs(a=(Kind.attempt, LONG)), replace(RUN, recipe="another"))


def test_its_jobs_are_told() -> None:
    cluster = over(with_jobs(s=(Kind.supervisor, LONG), a=(Kind.attempt, KILLED)))
    told = list(runs.told(cluster, RUN))
    assert [line.split()[1] for line in told] == ["s", "a"]
    assert "running" in told[0]
    assert "failed (status -9)" in told[1]
    assert "knows none" in next(iter(runs.told(cluster, RunJobs("/data/other"))))


def test_stop_ends_the_supervisor_first_then_what_it_has_submitted() -> None:
    cluster, said = with_jobs(a=(Kind.attempt, LONG), s=(Kind.supervisor, LONG)), list[str]()
    runs.stop(cluster, RUN, said.append, lambda seconds: None)
    assert cluster.stopped == ["s", "a"]
    assert said[:2] == ["stopped    s", "stopped    a"]
    assert not cluster.requests, "no terminal supervises it"


@pytest.mark.parametrize("running", [True, False])
def test_stop_without_a_supervisor_leaves_a_mark_for_terminals(running: bool) -> None:
    cluster, said = with_jobs(a=(Kind.attempt, LONG)) if running else Cluster(), list[str]()
    runs.stop(cluster, RUN, said.append, lambda seconds: None)
    assert [request.id for request in cluster.requests] == [RUN.name("stop", 1)]
    assert cluster.stopped == ["a"] * running
    assert ("nothing of this run" in said[0]) == (not running)


def test_logs_of_the_newest_or_of_a_number() -> None:
    cluster = with_jobs(
        a=(Kind.attempt, replace(KILLED, log=["old"])), b=(Kind.attempt, replace(LONG, log=["new"]))
    )
    assert runs.show(cluster, RUN, None) == "new"
    assert runs.show(cluster, RUN, 1) == "old"
    with pytest.raises(RecipeError, match=r"--attempt 7: .*knows are 1 \(mine\), 2"):
        runs.show(cluster, RUN, 7)


def test_logs_of_a_supervisor_that_has_submitted_nothing_yet() -> None:
    assert runs.show(with_jobs(s=(Kind.supervisor, replace(LONG, log=["waiting"]))), RUN, None) == "waiting"


def test_logs_of_an_unknown_run() -> None:
    for ask in (lambda: runs.show(Cluster(), RUN, None), lambda: runs.follow(Cluster(), RUN, print)):
        with pytest.raises(StorageError, match="knows no job of this run"):
            ask()


@pytest.mark.parametrize(
    ("end", "status"), [(DONE, 0), (KILLED, 3), (STOPPED, 130), (replace(KILLED, exit_code=1), 1)]
)
def test_following_ends_with_the_status_of_what_is_followed(end: End, status: int) -> None:
    cluster, text = over(with_jobs(a=(Kind.attempt, replace(end, log=["all of it"])))), list[str]()
    assert runs.follow(cluster, RUN, text.append, lambda seconds: None) == status
    assert text == ["all of it"]


def test_following_goes_on_with_the_next_attempt_while_it_is_supervised() -> None:
    cluster = with_jobs(
        s=(Kind.supervisor, replace(DONE, asked=1)), a=(Kind.attempt, replace(KILLED, log=["one "]))
    )
    text, turns = list[str](), iter(range(100))

    def wait(seconds: float) -> None:
        turn = next(turns)
        if turn == 2:
            cluster.add("b", RUN.notes(Kind.attempt, "mine", 2), replace(DONE, log=["two"], asked=1))
        if turn >= 2:
            for id in ("a", "b", "s"):
                cluster.record(id)

    assert runs.follow(cluster, RUN, text.append, wait) == 0
    assert text == ["one ", "two"]


def test_a_head_that_is_lost_while_one_follows_says_how_to_go_on() -> None:
    cluster = with_jobs(a=(Kind.attempt, LONG))
    cluster.before = lambda call: refused() if call else None
    with pytest.raises(StorageError, match=r"refused; when it does, .* submit the recipe again"):
        runs.follow(cluster, RUN, print, lambda seconds: None)


def test_a_detached_supervisor_does_what_its_notes_say() -> None:
    cluster, said = Cluster(KILLED, DONE), list[str]()
    plan = Plan([Job("mine", "do mine")], attempts=4, pause_s=0, patience_s=5)
    id = detach(cluster, RUN, plan, said.append)
    assert cluster.requests[0].command == f"python -m jobs.supervise {id}"
    assert json.loads(cluster.requests[0].notes["connote_plan"])["attempts"] == 4
    assert supervise_from_inside(cluster, id, Voice(said.append), lambda seconds: None) == 0
    assert [request.id for request in cluster.requests[1:]] == [RUN.name("mine", 1), RUN.name("mine", 2)]
    assert cluster.requests[1].notes["connote_recipe"] == RUN.recipe


@pytest.mark.parametrize(
    ("end", "error", "told"),
    [
        (DIED, StorageError, "did not start: it was lost: Job supervisor actor died"),
        (End(Phase.failed, 1, "No module named 'jobs'"), RecipeError, "install Connote, with all it needs"),
    ],
)
def test_a_supervisor_that_does_not_start_is_told(end: End, error: type[Exception], told: str) -> None:
    class Failing(Cluster):
        def submit(self, request):  # type: ignore[no-untyped-def]
            super().submit(request)
            failed = replace(
                self.jobs[request.id], phase=end.phase, exit_code=end.exit_code, reason=end.reason
            )
            self.jobs[request.id] = failed

    with pytest.raises(error, match=told):
        detach(Failing(), RUN, Plan([]), print)


def test_of_two_that_detach_at_once_one_is_refused() -> None:
    cluster = Cluster()
    cluster.add(RUN.name("supervisor", 1), {})  # which the other has just submitted
    with pytest.raises(RecipeError, match="just submitted elsewhere"):
        detach(cluster, RUN, Plan([]), print)


def test_a_job_that_is_no_supervisors_cannot_supervise() -> None:
    with pytest.raises(RecipeError, match="no supervisor's job"):
        supervise_from_inside(with_jobs(a=(Kind.attempt, LONG)), "a", Voice(print))
