from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.storage import location
from tests.catalog.captioned import ROWS, pictures, table


@pytest.fixture(scope="package")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh bucket of an S3-compatible server, as s3://name."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    import pyarrow.fs as pafs

    rights = {"allow_bucket_creation": True, "allow_bucket_deletion": True}
    fs = pafs.S3FileSystem(endpoint_override=s3_server, region="us-east-1", **rights)
    location._remote.cache_clear()
    fs.create_dir("photos")
    yield "s3://photos"
    fs.delete_dir("photos")
    location._remote.cache_clear()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A set of three images, of which a table names two."""
    pictures(tmp_path / "set" / "images")
    return table(tmp_path / "set" / "train.tsv", ROWS)
