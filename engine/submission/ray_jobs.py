"""Ray Jobs as a JobService: the one module that knows ray.job_submission."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import aiohttp
import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from engine.errors import RecipeError
from engine.submission.address import PORT, check_reachable
from engine.submission.service import Phase, Record, Request, Taken, Unreachable

Answer = TypeVar("Answer")

# Ray's client tells of uploads and closed connections at a level of its own choice.
for name in (JobSubmissionClient.__module__, JobSubmissionClient.__mro__[1].__module__):
    logging.getLogger(name).setLevel(logging.WARNING)

#: Ray's client waits for ever for a head node that was unplugged.
_TIMEOUT_S = 60.0
#: After so many seconds without a line, whether the job is still there is asked.
_QUIET_S = 10.0


class _HttpError(RuntimeError):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP status {status}: {text.strip()[-2000:]}")
        self.status = status


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, with a limit to its patience and errors that tell their status."""

    def _do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        answer: requests.Response = super()._do_request(*arguments, **{"timeout": _TIMEOUT_S, **options})
        return answer

    def _raise_error(self, answer: requests.Response) -> NoReturn:
        raise _HttpError(answer.status_code, answer.text)

    @property
    def ray_version(self) -> str:
        """The version on the cluster, which connecting has asked for."""
        return str(self._server_ray_version)


class RayJobs:
    """The jobs of the cluster behind a dashboard, and what those that are submitted here run in."""

    def __init__(self, client: _Client, environment: Mapping[str, Any] | None = None) -> None:
        self._client, self._environment = client, dict(environment or {})

    @classmethod
    def at(cls, url: str, environment: Mapping[str, Any] | None = None) -> RayJobs:
        """Connect to a dashboard; see `engine.submission.address`.

        Args:
            url: of the dashboard.
            environment: Ray's runtime environment of the jobs.

        Raises:
            RecipeError: nobody answers, or something else than a dashboard, or another Ray.
        """
        check_reachable(url)
        needed = f"the address that is needed is the dashboard's, such as http://HOST:{PORT}"
        try:
            with _address(url):
                client = _Client(url)
        except (requests.exceptions.ConnectionError, ConnectionError) as error:
            raise RecipeError(
                f"address {url}: what listens there does not speak HTTP (the GCS or Ray Client?); {needed}"
            ) from error
        except requests.exceptions.RequestException as error:
            raise RecipeError(f"address {url}: no Ray dashboard ({error}); {needed}") from error
        except AuthenticationError as error:
            raise RecipeError(
                f"the cluster at {url} asks for a token, and what came from here is none or another: set "
                "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's "
                "(`ray get-auth-token` prints it on the head node)"
            ) from error
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise RecipeError(f"address {url}: {error}; {needed}") from error
        if client.ray_version != ray.__version__:
            raise RecipeError(
                f"the cluster at {url} runs Ray {client.ray_version}, and here is Ray {ray.__version__}; "
                "install the same version on both"
            )
        return cls(client, environment)

    @classmethod
    def inside(cls, id: str) -> RayJobs:
        """The jobs of the cluster that this process is a job of; what it submits runs in what it runs in.

        Args:
            id: this job's name on the cluster.
        """
        client = _Client()  # Ray has left the cluster's address in the environment
        given = client.get_job_info(id).runtime_env or {}
        return cls(client, {key: given[key] for key in ("working_dir", "env_vars") if given.get(key)})

    def submit(self, request: Request) -> None:
        """See `JobService`. Sends the working directory, if the cluster has it not yet."""
        try:
            self._asked(
                lambda: self._client.submit_job(
                    entrypoint=request.command,
                    submission_id=request.id,
                    runtime_env=self._environment,
                    metadata=dict(request.notes),
                )
            )
        except _HttpError as error:
            if "already exists" in str(error):
                raise Taken(f"job {request.id} is on the cluster already") from error
            raise RecipeError(f"the cluster refuses job {request.id}: {error}") from error

    def record(self, id: str) -> Record | None:
        """See `JobService`."""
        try:
            return _record(self._asked(lambda: self._client.get_job_info(id)))
        except _HttpError as error:
            if error.status == 404:
                return None
            raise self._troubled(error) from error

    def records(self) -> list[Record]:
        """See `JobService`."""
        try:
            found = self._asked(self._client.list_jobs)
        except _HttpError as error:
            raise self._troubled(error) from error
        return [_record(details) for details in found if details.submission_id]

    def stop(self, id: str) -> None:
        """See `JobService`."""
        try:
            self._asked(lambda: self._client.stop_job(id))
        except _HttpError as error:
            if error.status != 404:
                raise self._troubled(error) from error

    def log(self, id: str) -> str:
        """See `JobService`."""
        try:
            return str(self._asked(lambda: self._client.get_job_logs(id)))
        except _HttpError as error:
            raise self._troubled(error) from error

    def tail(self, id: str) -> Iterator[str]:
        """See `JobService`."""
        loop = asyncio.new_event_loop()
        stream = self._client.tail_job_logs(id)
        waiting: asyncio.Task[str | None] | None = None
        try:
            while True:
                waiting = waiting or loop.create_task(_next(stream))
                done, _ = loop.run_until_complete(asyncio.wait({waiting}, timeout=_QUIET_S))
                if not done:
                    yield ""
                    continue
                text, waiting = waiting.result(), None
                if text is None:
                    return
                yield text
        except (aiohttp.ClientError, OSError, RuntimeError):
            return  # the job's record tells more than a connection that breaks
        finally:
            if waiting:
                waiting.cancel()
                loop.run_until_complete(asyncio.wait({waiting}))
            loop.run_until_complete(stream.aclose())
            loop.close()

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        """Ask the cluster; what it answers when it is in trouble counts as no answer."""
        try:
            return ask()
        except (requests.exceptions.RequestException, ConnectionError) as error:
            raise self._troubled(error) from error
        except _HttpError as error:
            if error.status >= 500:
                raise self._troubled(error) from error
            raise

    def _troubled(self, error: Exception) -> Unreachable:
        return Unreachable(f"the cluster at {self._client.get_address()} does not answer ({_short(error)})")


async def _next(stream: AsyncIterator[str]) -> str | None:
    async for text in stream:
        return text
    return None


def _short(error: Exception) -> str:
    """The innermost reason: around it are the names of three libraries' classes."""
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    return getattr(inner, "strerror", None) or str(inner)


def _record(details: Any) -> Record:
    return Record(
        id=details.submission_id,
        phase=Phase(str(details.status)),
        notes=details.metadata or {},
        exit_code=details.driver_exit_code,
        reason=details.message or "",
        started=details.start_time / 1000 if details.start_time else None,
    )


@contextmanager
def _address(url: str) -> Iterator[None]:
    """Have Ray's client take this address: its own variables would go before it."""
    name = "RAY_API_SERVER_ADDRESS"
    kept = os.environ.get(name)
    os.environ[name] = url
    try:
        yield
    finally:
        if kept is None:
            del os.environ[name]
        else:
            os.environ[name] = kept
