"""Ray Jobs as a JobService, over Ray's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar

import aiohttp
import requests

from engine.errors import RecipeError
from engine.submission.ray_client import Client, HttpError, connect
from engine.submission.service import Phase, Record, Request, Taken, Unreachable

Answer = TypeVar("Answer")

#: After so many seconds without a line, whether the job is still there is asked.
_QUIET_S = 10.0


class RayJobs:
    """The jobs of the cluster behind a dashboard, and what those that are submitted here run in."""

    def __init__(self, client: Client, environment: Mapping[str, Any] | None = None) -> None:
        self._client, self._environment = client, dict(environment or {})

    @classmethod
    def at(cls, url: str, environment: Mapping[str, Any] | None = None) -> RayJobs:
        """The jobs behind a dashboard; see `connect`.

        Args:
            url: of the dashboard.
            environment: Ray's runtime environment of the jobs.

        Raises:
            RecipeError: nobody answers, or something else than a dashboard, or another Ray.
        """
        return cls(connect(url), environment)

    @classmethod
    def inside(cls, id: str) -> RayJobs:
        """The jobs of the cluster that this process is a job of; what it submits runs in what it runs in.

        Args:
            id: this job's name on the cluster.
        """
        client = Client()  # Ray has left the cluster's address in the environment
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
        except HttpError as error:
            if "already exists" in str(error):
                raise Taken(f"job {request.id} is on the cluster already") from error
            raise RecipeError(f"the cluster refuses job {request.id}: {error}") from error

    def record(self, id: str) -> Record | None:
        """See `JobService`."""
        try:
            return _record(self._asked(lambda: self._client.get_job_info(id)))
        except HttpError as error:
            if error.status == 404:
                return None
            raise self._troubled(error) from error

    def records(self) -> list[Record]:
        """See `JobService`."""
        try:
            found = self._asked(self._client.list_jobs)
        except HttpError as error:
            raise self._troubled(error) from error
        return [_record(details) for details in found if details.submission_id]

    def stop(self, id: str) -> None:
        """See `JobService`."""
        try:
            self._asked(lambda: self._client.stop_job(id))
        except HttpError as error:
            if error.status != 404:
                raise self._troubled(error) from error

    def log(self, id: str) -> str:
        """See `JobService`."""
        try:
            return str(self._asked(lambda: self._client.get_job_logs(id)))
        except HttpError as error:
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
        except HttpError as error:
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
