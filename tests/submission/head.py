"""A cluster with a dashboard, started as a user does; each of its nodes can be killed and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import requests

from tests.flow.runs import free_port

#: Ray's own scripts and the cluster's `python` are those of the environment that runs the tests.
_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
_PORTS = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "node-manager-port",
    "object-manager-port",
)
_HEADS_PORTS = ("port", "ray-client-server-port", "dashboard-port")
#: By this in their environment a node's processes are found, whoever their parents are.
_MARK = "TESTS_NODE"


class Node:
    """What `ray start` starts with these arguments; on one machine each node has ports of its own."""

    def __init__(self, given: list[str], variables: dict[str, str], ports: tuple[str, ...] = _PORTS) -> None:
        # Ray's sockets lie below it, and their names may have 107 characters.
        self._scratch = tempfile.mkdtemp(prefix="node-", dir="/tmp")
        self._ports = {name: free_port() for name in ports}
        self._given, self.variables = given, variables

    def start(self) -> None:
        given = [f"--{name}={port}" for name, port in self._ports.items()]
        given += ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={self._scratch}", *self._given]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *given],
            env={**os.environ, **self.variables, _MARK: self._scratch},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 180
        while not condition():
            assert self._process.poll() is None, "ray start ended"
            assert time.monotonic() < end, "the node did not start in three minutes"
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL all its processes, as when the machine is unplugged."""
        while found := self.processes():
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            psutil.wait_procs(found, timeout=30)

    def remove(self) -> None:
        """Kill it for good."""
        self.kill()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def processes(self) -> list[psutil.Process]:
        """All that run on it."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                if process.environ().get(_MARK) == self._scratch:
                    found.append(process)
        return found


class Head(Node):
    """The head node. It asks for a token, which processes with `variables` in their environment have."""

    def __init__(self, cpus: int = 3) -> None:
        variables = {
            "PATH": _PATH,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "a-token-of-the-tests-with-32-letters",
            "RAY_worker_niceness": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        super().__init__(["--head", f"--num-cpus={cpus}"], variables, (*_PORTS, *_HEADS_PORTS))
        self.start()

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self._ports['dashboard-port']}"

    @property
    def gcs(self) -> str:
        return f"127.0.0.1:{self._ports['port']}"

    def start(self) -> None:
        super().start()
        self.wait_for(lambda: self.asked("/api/jobs/") is not None)  # the dashboard is there, and a node

    def worker(self, cpus: int) -> Node:
        """A new node of this cluster, when the head lists it."""
        node = Node([f"--address={self.gcs}", f"--num-cpus={cpus}"], self.variables)
        before = self._nodes()
        node.start()
        node.wait_for(lambda: self._nodes() > before)
        return node

    def asked(self, path: str) -> requests.Response | None:
        """What the dashboard answers; None if it does not, or not with success."""
        token = {"Authorization": f"Bearer {self.variables['RAY_AUTH_TOKEN']}"}
        with suppress(requests.RequestException):
            answer = requests.get(f"{self.dashboard}{path}", headers=token, timeout=5)
            return answer if answer.status_code == 200 else None
        return None

    def _nodes(self) -> int:
        """How many the head has ever listed; those that are gone stay."""
        answer = self.asked("/api/v0/nodes")
        return len(answer.json()["data"]["result"]["result"]) if answer else 0
