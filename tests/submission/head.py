"""A cluster of one node with a dashboard, started as a user does; it can be killed and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import requests

from tests.flow.runs import free_port

#: Ray's own scripts and the cluster's `python` are those of the environment that runs the tests.
_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
_PORTS = (
    "port",
    "ray-client-server-port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "node-manager-port",
    "object-manager-port",
)


class Head:
    """The head node. It asks for a token, which processes with `variables` in their environment have."""

    def __init__(self) -> None:
        # Ray's sockets lie below it, and their names may have 107 characters.
        self._scratch = tempfile.mkdtemp(prefix="head-", dir="/tmp")
        self._ports = {name: free_port() for name in _PORTS}
        self.variables = {
            "PATH": _PATH,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "a-token-of-the-tests-with-32-letters",
            "RAY_worker_niceness": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.start()

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self._ports['dashboard-port']}"

    @property
    def gcs(self) -> str:
        return f"127.0.0.1:{self._ports['port']}"

    def start(self) -> None:
        given = [f"--{name}={port}" for name, port in self._ports.items()]
        given += ["--min-worker-port=0", "--max-worker-port=0", "--num-cpus=3", f"--temp-dir={self._scratch}"]
        self._node = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *given],
            env={**os.environ, **self.variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 120
        while not self._answers():
            assert self._node.poll() is None, "ray start ended"
            assert time.monotonic() < end, "no dashboard in two minutes"
            time.sleep(0.2)

    def _answers(self) -> bool:
        """Whether jobs can be submitted: the dashboard is there and a node has joined."""
        token = {"Authorization": f"Bearer {self.variables['RAY_AUTH_TOKEN']}"}
        with suppress(requests.RequestException):
            jobs = requests.get(f"{self.dashboard}/api/jobs/", headers=token, timeout=5)
            return jobs.status_code == 200
        return False

    def kill(self) -> None:
        """SIGKILL all its processes, as when the machine is unplugged."""
        found = self._processes()
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._node.wait()
        psutil.wait_procs(found, timeout=30)

    def remove(self) -> None:
        """Kill it for good."""
        self.kill()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _processes(self) -> list[psutil.Process]:
        """What it started, and what these started, though their parents may be gone."""
        roots = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if self._scratch in " ".join(process.cmdline()):
                    roots.append(process)
        with suppress(psutil.NoSuchProcess):
            roots.append(psutil.Process(self._node.pid))
        below = []
        for process in roots:
            with suppress(psutil.NoSuchProcess):
                below += process.children(recursive=True)
        return list({process.pid: process for process in [*roots, *below]}.values())
