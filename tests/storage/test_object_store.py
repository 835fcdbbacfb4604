"""What object stores do to who uses them: refusals, outages, interruptions."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pyarrow.fs as pafs
import pytest

from engine.catalog.listing import find_files
from engine.errors import RecipeError, StorageError
from engine.rundir import RunDirectory
from engine.storage import Location, location, object_store
from tests.conftest import RIGHTS
from tests.door import Door
from tests.submission.web import answering

DENIED = (403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")


@pytest.fixture(autouse=True)
def _no_connections_of_others() -> Iterator[None]:
    object_store.remote.cache_clear()
    yield
    object_store.remote.cache_clear()


def refusal(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> str:
    """What is said when a store denies a write to who has these variables."""
    for name in (*RIGHTS, "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    # Without keys the machine's role is asked for, where there is one.
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **variables}.items():
        monkeypatch.setenv(name, value)
    object_store.remote.cache_clear()
    with answering({}, DENIED) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(StorageError) as raised:
            Location("s3://photos/run/a").write_bytes(b"x")
    return str(raised.value)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, {})
    assert said.startswith("s3://photos/run/a: no permission; not set here: ")
    assert "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; set both" in said
    assert "AWS_PROFILE" in said and "a role" in said
    said = refusal(monkeypatch, {"AWS_ACCESS_KEY_ID": "test"})
    assert "not set here: AWS_SECRET_ACCESS_KEY;" in said


def test_credentials_that_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, RIGHTS)
    assert "no permission; check the credentials in the environment, and the bucket's policy" in said


def test_a_bucket_that_is_not_there_to_be_read(bucket: str) -> None:
    told = "s3://photographs: no such bucket; create it, or correct its name"
    with pytest.raises(StorageError, match=told):
        RunDirectory.at("s3://photographs/run").read_recipe()
    for uri in ("s3://photographs/a", "s3://photographs/{00..11}.tar", "s3://photographs/*.tar"):
        with pytest.raises(RecipeError, match=f"images.uri: {told}"):
            find_files(uri, lambda name: True)
    with pytest.raises(StorageError, match="no run directory"):
        RunDirectory.at(f"{bucket}/run").read_recipe()


def test_a_store_that_is_away_for_a_while(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", door.url)
    place = Location(f"{bucket}/a")
    place.write_bytes(b"before")
    door.shut()
    threading.Timer(2, door.open).start()
    assert place.read_bytes() == b"before"
    door.shut()
    threading.Timer(2, door.open).start()
    place.write_bytes(b"after")
    assert place.read_bytes() == b"after"
    door.shut()


def test_a_store_that_is_gone(bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    door = Door(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", door.url)
    door.shut()
    place = Location(f"{bucket}/a")
    for act in (place.exists, place.read_bytes, place.entries, lambda: place.write_bytes(b"x")):
        with pytest.raises(StorageError, match="the store does not answer; check that it is up, and its"):
            act()


def test_browsers_show_pages_and_pictures(bucket: str, s3_server: str) -> None:
    store = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    for name, kind in (
        ("map.html", "text/html; charset=utf-8"),
        ("map.png", "image/png"),
        ("part.parquet", "application/octet-stream"),
    ):
        Location(f"{bucket}/run/{name}").write_bytes(b"x")
        assert store.head_object(Bucket="photos", Key=f"run/{name}")["ContentType"] == kind


def test_ctrl_c_while_an_object_is_written_leaves_it_whole(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and writing, where closing what was opened would put an empty object."""
    place = Location(f"{bucket}/a")
    fs, _ = place.resolve()
    # A shell's background processes, as these tests may be, ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Interrupted:
        def open_output_stream(self, *arguments: Any, **options: Any) -> pafs.NativeFile:
            stream = fs.open_output_stream(*arguments, **options)
            os.kill(os.getpid(), signal.SIGINT)
            return stream

    try:
        with monkeypatch.context() as patch:
            patch.setattr(location, "remote", lambda *_: Interrupted())
            with pytest.raises(KeyboardInterrupt):
                place.write_bytes(b"all of it")
    finally:
        signal.signal(signal.SIGINT, before)
    for thread in threading.enumerate():
        if thread.name.startswith("put"):
            thread.join(60)  # as the process does before it leaves
    assert place.read_bytes() == b"all of it"


def test_a_network_that_answers_nothing_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no endpoint is set, AWS is asked in which region a bucket lies; the library sets no limit."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(object_store, "_REGION_S", 0.05)
    done = threading.Event()
    monkeypatch.setattr(object_store.pafs, "resolve_s3_region", lambda bucket: done.wait(60))
    with pytest.raises(StorageError, match=r"s3://far: cannot be reached \(AWS did not say within 0.05 s"):
        object_store.remote("s3", "far")
    done.set()


def test_the_regions_own_refusal_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)

    def refuse(bucket: str) -> str:
        raise OSError("Bucket 'far' not found")

    monkeypatch.setattr(object_store.pafs, "resolve_s3_region", refuse)
    with pytest.raises(StorageError, match="Bucket 'far' not found"):
        object_store.remote("s3", "far")
    monkeypatch.setattr(object_store.pafs, "resolve_s3_region", lambda bucket: "eu-west-1")
    assert object_store.remote("s3", "far").region == "eu-west-1"
