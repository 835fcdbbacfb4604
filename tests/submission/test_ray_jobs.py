from __future__ import annotations

import json

import pytest

from engine.errors import RecipeError
from engine.submission.ray_jobs import RayJobs
from engine.submission.service import Phase, Request, Taken, Unreachable
from tests.submission.web import VERSION, answering

JOB = {
    "type": "SUBMISSION",
    "submission_id": "a",
    "job_id": None,
    "status": "FAILED",
    "entrypoint": "python",
    "message": "failed with exit code 3",
    "start_time": 1500,
    "metadata": {"connote_run": "/data/run"},
    "driver_exit_code": 3,
}
REQUEST = Request("a", "python -m jobs.mine", {})


def test_records() -> None:
    driver = {**JOB, "type": "DRIVER", "submission_id": None, "job_id": "01000000"}
    answers = {"/api/jobs/a": (200, json.dumps(JOB)), "/api/jobs/": (200, json.dumps([JOB, driver]))}
    with answering(VERSION | answers) as url:
        jobs = RayJobs.at(url)
        record = jobs.record("a")
        assert record is not None
        assert (record.phase, record.exit_code, record.started) == (Phase.failed, 3, 1.5)
        assert record.notes == {"connote_run": "/data/run"}
        assert jobs.records() == [record], "what was not submitted is no job of ours"
        assert jobs.record("unknown") is None


def test_a_name_is_given_once() -> None:
    text = "ValueError: Job with submission_id a already exists. Please use a different submission_id."
    with answering(VERSION | {"/api/jobs/": (400, text)}) as url, pytest.raises(Taken):
        RayJobs.at(url).submit(REQUEST)


def test_a_refused_request_tells_why() -> None:
    refused = answering(VERSION | {"/api/jobs/": (400, "ValueError: the runtime_env is not valid")})
    with refused as url, pytest.raises(RecipeError, match="runtime_env is not valid"):
        RayJobs.at(url).submit(REQUEST)


def test_a_dashboard_in_trouble_counts_as_silent() -> None:
    with answering(VERSION, other=(500, "No available agent to submit job")) as url:
        jobs = RayJobs.at(url)
        asked = [lambda: jobs.submit(REQUEST), lambda: jobs.record("a"), jobs.records]
        for ask in [*asked, lambda: jobs.log("a"), lambda: jobs.stop("a")]:
            with pytest.raises(Unreachable, match="No available agent"):
                ask()
        assert list(jobs.tail("a")) == []
    with pytest.raises(Unreachable, match=f"the cluster at {url} does not answer .*Connection refused"):
        jobs.records()
    assert list(jobs.tail("a")) == []


def test_stopping_what_is_gone_is_no_error() -> None:
    with answering(VERSION) as url:
        RayJobs.at(url).stop("a")
