"""Supervision as a small job of its own, which outlives the terminal that asked for it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict

from engine.errors import RecipeError, StorageError
from engine.statuses import REFUSED
from engine.submission.naming import Kind, RunJobs
from engine.submission.plan import Job, Plan
from engine.submission.service import JobService, Phase, Request, Taken
from engine.submission.supervise import Supervisor, Voice
from engine.submission.verdict import judge

#: The job's own command line would be the other place; it is shown to people.
_PLAN = "connote_plan"


def detach(service: JobService, run: RunJobs, plan: Plan, say: Callable[[str], None]) -> str:
    """Have the cluster supervise a run, in a job that reserves nothing; return its name.

    Raises:
        RecipeError: another one was submitted in the same moment, or the nodes lack Connote.
        StorageError: it does not start.
    """
    number = run.next_number(service.records(), Kind.supervisor, "supervisor")
    id = run.name("supervisor", number)
    notes = run.notes(Kind.supervisor, "supervisor", number) | {_PLAN: json.dumps(asdict(plan))}
    try:
        service.submit(Request(id, shlex.join(["python", "-m", "jobs.supervise", id]), notes))
    except Taken as error:
        raise RecipeError(f"{run.uri} is being supervised by job {id}, just submitted elsewhere") from error
    say(f"submitted  {id}, which supervises {run.uri} from now on")
    while (record := service.record(id)) is not None and record.phase is Phase.pending:
        time.sleep(0.5)
    if record is None or record.phase is Phase.failed:
        verdict = judge(record, accepted=False)
        if verdict.status == REFUSED:
            raise RecipeError(f"job {id} {verdict.words}")
        raise StorageError(f"the supervisor {id} did not start: it {verdict.words}")
    return id


def supervise_from_inside(
    service: JobService, id: str, voice: Voice, sleep: Callable[[float], None] = time.sleep
) -> int:
    """What the supervisor's job does; returns its exit status.

    Args:
        service: the cluster's jobs.
        id: this job's name.
        voice: whose lines are this job's log.
        sleep: waits so many seconds.
    """
    record = service.record(id)
    if record is None or _PLAN not in record.notes:
        raise RecipeError(f"{id} is no supervisor's job; submit a recipe with connote submit --detach")
    plan = json.loads(record.notes[_PLAN])
    jobs = [Job(**job) for job in plan.pop("jobs")]
    return Supervisor(service, RunJobs.of(record), Plan(jobs=jobs, **plan), voice, sleep).supervise()
