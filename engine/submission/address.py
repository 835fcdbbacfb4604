"""Where a cluster takes jobs: its dashboard, which people mistake for two other doors of the head node."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from engine.errors import RecipeError

PORT = 8265
_GCS_PORT = 6379
_SECONDS = 10.0


def dashboard_url(given: str | None) -> str:
    """The dashboard's URL: as given, else RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else this machine's.

    Raises:
        RecipeError: it is the address of something else; the message says which one is needed.
    """
    known = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    address = (given or known or "auto").strip()
    if address in ("auto", "local"):
        address = f"127.0.0.1:{PORT}"
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RecipeError(f"address {address}: {error}; write http://HOST:{PORT}") from error
    if not host:
        raise RecipeError(f"address {address}: it names no host; write http://HOST:{PORT}")
    shown = f"[{host}]" if ":" in host else host
    needed = f"jobs go to the dashboard: http://{shown}:{PORT}, if its port was not changed"
    if parts.scheme == "ray":
        raise RecipeError(f"address {address}: that is Ray Client's; {needed}")
    if parts.scheme not in ("", "http", "https"):
        raise RecipeError(f"address {address}: '{parts.scheme}://' is not known; {needed}")
    if port == _GCS_PORT:
        raise RecipeError(f"address {address}: {port} is the port by which nodes join (the GCS); {needed}")
    if parts.scheme:
        return address.rstrip("/")
    return f"http://{shown}:{port or PORT}"


def check_reachable(url: str) -> None:
    """Knock at a dashboard's door.

    Raises:
        RecipeError: nobody listens there.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if (reason := _silent(host, port)) is None:
        return
    if _silent(host, _GCS_PORT) is None:
        raise RecipeError(
            f"no dashboard answers at {url} ({reason}), though a Ray cluster seems to run on {host} (port "
            f"{_GCS_PORT} answers): its dashboard may listen there alone, so run the command on {host}, or "
            f"bring it here (`ssh -L {PORT}:localhost:{PORT} {host}`) and name http://localhost:{PORT}, "
            "or name the port that --dashboard-port gave it"
        )
    raise RecipeError(
        f"no Ray cluster answers at {url} ({reason}); start one with `ray start --head`, name the dashboard "
        f"of another with --address http://HOST:{PORT}, or run on this machine with connote run"
    )


def _silent(host: str, port: int) -> str | None:
    """Why nobody answers; None if somebody does."""
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
