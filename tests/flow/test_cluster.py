"""Which Ray a command runs on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

ALONE = """
from engine.flow.cluster import cluster
with cluster(None, (), False):
    print("on a Ray of its own")
"""


def test_without_an_address_it_joins_no_cluster_that_somebody_started() -> None:
    """Ray by itself joins the one last started on the machine, and refuses to be given CPUs there."""
    # The paths of Ray's sockets have to be short; its last processes may still write when it is removed.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name:
        (Path(name) / "ray").mkdir()
        (Path(name) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": name}
        done = subprocess.run(
            [sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0 and "on a Ray of its own" in done.stdout, done.stderr
