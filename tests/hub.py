"""A model hub on this machine: serves directories as repositories, and counts what is fetched by whom."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_COMMIT = "0" * 39 + "1"


class Hub:
    """Serves `root`/ORGANISATION/NAME as ORGANISATION/NAME; weights take `delay_s` to be sent.

    Attributes:
        fetched: how often each file was sent, by its name.
        at_once: the most weights that were on their way at the same time.
    """

    def __init__(self, root: Path, delay_s: float = 0.0) -> None:
        self.root, self.delay_s = root, delay_s
        self.fetched, self.at_once, self._sending = Counter[str](), 0, 0
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()

    def sending(self, name: str, step: int) -> None:
        with self._lock:
            self.fetched[name] += step > 0
            self._sending += step
            self.at_once = max(self.at_once, self._sending)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        if path.startswith("api/models/"):
            return self._about("/".join(path.split("/")[2:4]), "/tree/" in path)
        name, _, file = path.partition("/resolve/")
        found = self.hub.root / name / file.partition("/")[2]
        if not found.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return None
        data = found.read_bytes()
        self._head(len(data), hashlib.sha1(data).hexdigest())
        if body:
            weights = found.suffix == ".safetensors"
            if weights:
                self.hub.sending(found.name, 1)
                time.sleep(self.hub.delay_s)
            self.wfile.write(data)
            if weights:
                self.hub.sending(found.name, -1)
        return None

    def _about(self, name: str, tree: bool) -> None:
        files = sorted(path for path in (self.hub.root / name).rglob("*") if path.is_file())
        named = [(str(path.relative_to(self.hub.root / name)), path.stat().st_size) for path in files]
        siblings = [{"rfilename": file, "size": size} for file, size in named]
        told: Any = {"id": name, "modelId": name, "sha": _COMMIT, "siblings": siblings}
        if tree:
            told = [{"type": "file", "path": file, "size": size, "oid": _COMMIT} for file, size in named]
        data = json.dumps(told).encode()
        self._head(len(data), None)
        self.wfile.write(data)

    def _head(self, size: int, digest: str | None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.send_header("X-Repo-Commit", _COMMIT)
        if digest:
            self.send_header("ETag", f'"{digest}"')
        else:
            self.send_header("Content-Type", "application/json")
        self.end_headers()
