"""A web server that gives the answers it was told, as a dashboard would."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import ray

VERSION = {"/api/version": (200, json.dumps({"version": "4", "ray_version": ray.__version__}))}


@contextmanager
def answering(
    answers: Mapping[str, tuple[int, str]], other: tuple[int, str] = (404, "not here")
) -> Iterator[str]:
    """Its URL. Answers by path: status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answers.get(self.path, other)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
