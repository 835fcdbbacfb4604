"""The jobs of a run on a cluster: told, shown, followed, stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial

from engine.errors import RecipeError, StorageError
from engine.statuses import INTERRUPTED, OK, STOPPED
from engine.submission.log_reader import LogReader
from engine.submission.naming import Kind, RunJobs, host_of, job_of, number_of, recipe_of
from engine.submission.service import JobService, Phase, Record, Request, Unreachable

_POLL_S = 1.0


def check_free(service: JobService, run: RunJobs) -> None:
    """Refuse to submit a run that is being supervised, or that is running by another recipe.

    Raises:
        RecipeError: with the job's name, and what to do.
    """
    records = service.records()
    for record in _running(run.among(records, Kind.supervisor)):
        raise RecipeError(
            f"{run.uri} is being supervised by job {record.id} (submitted on {host_of(record)}); "
            f"`connote logs {run.uri} --follow` follows it, `connote stop {run.uri}` ends it"
        )
    for record in _running(run.among(records, Kind.attempt)):
        if recipe_of(record) != run.recipe:
            raise RecipeError(
                f"job {record.id} is running {run.uri} by another recipe or with other settings; wait "
                f"for it, or end it first: connote stop {run.uri}"
            )


def told(service: JobService, run: RunJobs) -> Iterator[str]:
    """What the cluster knows of a run's jobs, a line each."""
    records = service.records()
    found = [*run.among(records, Kind.supervisor), *run.among(records, Kind.attempt)]
    if not found:
        yield "jobs       the cluster knows none of this run"
    for record in found:
        since = f"{datetime.fromtimestamp(record.started):%Y-%m-%d %H:%M:%S}" if record.started else "-"
        status = f" (status {record.exit_code})" if record.exit_code else ""
        yield f"job        {record.id}  {record.phase.lower()}{status}, since {since}, from {host_of(record)}"


def stop(
    service: JobService,
    run: RunJobs,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Stop what runs of a run, the supervisor first, which would submit again.

    A supervisor in a terminal is no job: where none is found, a mark is left that it looks for before
    it submits again.
    """
    supervisors = _running(run.among(service.records(), Kind.supervisor))
    _stop(service, supervisors, say, sleep)
    records = service.records()
    attempts = _running(run.among(records, Kind.attempt))
    if not supervisors:
        number = run.next_number(records, Kind.stop, "stop")
        service.submit(Request(run.name("stop", number), "true", run.notes(Kind.stop, "stop", number)))
    _stop(service, attempts, say, sleep)
    if not supervisors and not attempts:
        say(
            "nothing of this run is running on the cluster; a terminal that waits to submit it again gives up"
        )
    else:
        say("what is finished is kept; submit the recipe again to go on")


def _stop(
    service: JobService, records: Sequence[Record], say: Callable[[str], None], sleep: Callable[[float], None]
) -> None:
    for record in records:
        service.stop(record.id)
    for record in records:
        while (now := service.record(record.id)) is not None and not now.ended:
            sleep(_POLL_S)
        say(f"stopped    {record.id}")


def show(service: JobService, run: RunJobs, attempt: int | None) -> str:
    """The log of the newest attempt, or of the one with a number, as far as it is there.

    Raises:
        RecipeError: there is none of that number.
        StorageError: the cluster knows no job of this run.
    """
    records = service.records()
    attempts = run.among(records, Kind.attempt)
    found = attempts or run.among(records, Kind.supervisor)
    if not found:
        raise _none(run)
    if attempt is not None:
        found = [each for each in attempts if number_of(each) == attempt]
        if not found:
            known = ", ".join(f"{number_of(each)} ({job_of(each)})" for each in attempts) or "none"
            raise RecipeError(f"--attempt {attempt}: the attempts that the cluster knows are {known}")
    return service.log(found[-1].id)


def follow(
    service: JobService,
    run: RunJobs,
    write: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Write the logs of a run's attempts, from the newest one on, as long as one runs or is to come.

    Returns:
        The exit status of the supervisor if the cluster knows one, else of the last attempt.

    Raises:
        StorageError: the cluster knows no job of this run, or does not answer.
    """
    try:
        return _follow(service, run, write, sleep)
    except Unreachable as error:
        raise StorageError(
            f"{error}; when it does, the same command goes on, and if its head has been started again and "
            "knows the run no more, submit the recipe again: what is finished is kept"
        ) from error


def _follow(
    service: JobService, run: RunJobs, write: Callable[[str], None], sleep: Callable[[float], None]
) -> int:
    log: LogReader | None = None
    while True:
        records = service.records()
        attempts, supervisors = run.among(records, Kind.attempt), run.among(records, Kind.supervisor)
        if not attempts and not supervisors:
            raise _none(run)
        if attempts and (log is None or log.id != attempts[-1].id):
            log = LogReader(service, attempts[-1].id, write)
            log.read(partial(_over, service, log.id))
            continue
        if not _running([*attempts, *supervisors]):
            return _status((supervisors or attempts)[-1])
        if log:
            log.read(partial(_over, service, log.id))
        sleep(_POLL_S)


def _over(service: JobService, id: str) -> bool:
    record = service.record(id)
    return record is None or record.ended


def _running(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if not record.ended]


def _status(record: Record) -> int:
    """An exit status for one's own command: what a signal ended has none."""
    if record.phase is Phase.succeeded:
        return OK
    if record.phase is Phase.stopped:
        return INTERRUPTED
    return record.exit_code if record.exit_code and record.exit_code > 0 else STOPPED


def _none(run: RunJobs) -> StorageError:
    return StorageError(
        f"{run.uri}: the cluster knows no job of this run; check --address, and the run directory, which is "
        "run.out as the recipe or --out has it (a head that was started again has forgotten its jobs: submit "
        "the recipe again)"
    )
