"""A node that is told to end, by its cloud or by Kubernetes, is drained first; the cloud is feigned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray
from ray._private.state import state
from ray.cluster_utils import Cluster

from tests.cluster.files import CLUSTER, KUBERAY, one
from tests.cluster.test_nodes import HERE
from tests.flow.runs import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    ray.init(address=cluster.address, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def wait_for(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


@ray.remote(num_cpus=1, resources={"leaving": 1})
def work(begun: Path, seconds: float) -> str:
    begun.touch()
    time.sleep(seconds)
    return "finished"


def test_a_pod_that_is_told_to_end_finishes_what_it_works_on(cluster: Cluster, tmp_path: Path) -> None:
    """SIGTERM to `ray start --block`, with the variables of the manifests."""
    (container,) = one(KUBERAY / "raycluster.yaml")["spec"]["workerGroupSpecs"][0]["template"]["spec"][
        "containers"
    ]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert float(variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) > 60
    before = {node["NodeID"] for node in ray.nodes()}
    words = ["ray.scripts.scripts", "start", f"--address={cluster.address}", "--block", "--num-cpus=1"]
    words += ['--resources={"leaving": 1}', f"--dashboard-agent-listen-port={free_port()}"]
    with subprocess.Popen([sys.executable, "-m", *words], env={**os.environ, **HERE, **variables}) as node:
        try:
            wait_for(lambda: len(ray.nodes()) > len(before))
            (name,) = {node["NodeID"] for node in ray.nodes()} - before
            working = work.remote(tmp_path / "begun", 8)
            wait_for((tmp_path / "begun").exists)
            node.send_signal(signal.SIGTERM)
            wait_for(lambda: name in state.get_draining_nodes())
            assert ray.get(working, timeout=60) == "finished"
            assert node.wait(90) == 1, "with nothing left to do it does not wait for its last second"
        finally:
            node.kill()


class _Metadata(BaseHTTPRequestHandler):
    """The metadata server of a cloud, on which `notices` are answered."""

    notices: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_PUT(self) -> None:
        self._answer("a-token" if self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/latest") and self.headers["X-aws-ec2-metadata-token"] != "a-token":
            return self._answer(None, 401)
        if self.path.startswith("/computeMetadata") and self.headers["Metadata-Flavor"] != "Google":
            return self._answer(None, 403)
        return self._answer(self.notices.get(self.path))

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, text: str | None, status: int = 404) -> None:
        self.send_response(200 if text is not None else status)
        self.end_headers()
        self.wfile.write((text or "").encode())


@pytest.mark.parametrize(
    ("path", "notice"),
    [
        ("/latest/meta-data/spot/instance-action", '{"action": "terminate"}'),
        ("/computeMetadata/v1/instance/preempted", "TRUE"),
    ],
    ids=["aws", "gcp"],
)
def test_a_clouds_notice_drains_the_node(cluster: Cluster, tmp_path: Path, path: str, notice: str) -> None:
    node = cluster.add_node(num_cpus=1, resources={"leaving": 1})
    working = work.remote(tmp_path / "begun", 20)
    wait_for((tmp_path / "begun").exists)
    handler = type("Handler", (_Metadata,), {"notices": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    given = {"CONNOTE_METADATA": url, "CONNOTE_METADATA_PAUSE": "0.2"}
    command = [CLUSTER / "spot.sh", "--node-id", node.node_id, "--address", cluster.address]
    with subprocess.Popen(command, env={**os.environ, **HERE, **given}) as watch:
        try:
            wait_for(lambda: len(handler.asked) > 5)
            assert watch.poll() is None and not state.get_draining_nodes(), "there is no notice yet"
            handler.notices[path] = notice
            assert watch.wait(60) == 0
            assert node.node_id in state.get_draining_nodes()
            assert ray.get(working, timeout=60) == "finished"
        finally:
            watch.kill()
            server.shutdown()
