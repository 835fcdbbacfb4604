"""Ray's client for jobs, and connecting to a dashboard: the one module that knows ray.job_submission."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from engine.errors import RecipeError
from engine.submission.address import PORT, check_reachable

# It tells of uploads and closed connections at a level of its own choice.
for name in (JobSubmissionClient.__module__, JobSubmissionClient.__mro__[1].__module__):
    logging.getLogger(name).setLevel(logging.WARNING)

#: It waits for ever for a head node that was unplugged.
_TIMEOUT_S = 60.0


class HttpError(RuntimeError):
    """What a dashboard answers other than success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP status {status}: {text.strip()[-2000:]}")
        self.status = status


class Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, with a limit to its patience and errors that tell their status."""

    def _do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        answer: requests.Response = super()._do_request(*arguments, **{"timeout": _TIMEOUT_S, **options})
        return answer

    def _raise_error(self, answer: requests.Response) -> NoReturn:
        raise HttpError(answer.status_code, answer.text)

    @property
    def ray_version(self) -> str:
        """The version on the cluster, which connecting has asked for."""
        return str(self._server_ray_version)


def connect(url: str) -> Client:
    """Connect to a dashboard; see `engine.submission.address`.

    Raises:
        RecipeError: nobody answers, or something else than a dashboard, or another Ray.
    """
    check_reachable(url)
    needed = f"the address that is needed is the dashboard's, such as http://HOST:{PORT}"
    try:
        with _address(url):
            client = Client(url)
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
    return client


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
