"""What tests of several rooms share: an object store, and an end to what they started."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import hypothesis
import pytest

from engine.storage import object_store
from tests import process

# What an example takes says nothing on machines that others use, too.
hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared")

#: What the object store asks for.
RIGHTS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture(autouse=True)
def _nothing_runs_on() -> Iterator[None]:
    """What a failed test leaves running would take its share from all behind it."""
    yield
    while process.RUNS:
        process.RUNS.pop().stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    # A line for each request, which pytest would keep for tests that fail.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh bucket of an S3-compatible server, as s3://name."""
    import pyarrow.fs as pafs

    for name, value in {**RIGHTS, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    rights = {"allow_bucket_creation": True, "allow_bucket_deletion": True}
    fs = pafs.S3FileSystem(
        endpoint_override=s3_server, region="us-east-1", access_key="test", secret_key="test", **rights
    )
    object_store.remote.cache_clear()
    fs.create_dir("photos")
    yield "s3://photos"
    fs.delete_dir("photos")
    object_store.remote.cache_clear()
