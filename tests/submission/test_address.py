from __future__ import annotations

import json
import os
import socket
from threading import Thread

import pytest
import ray

from engine.errors import RecipeError
from engine.submission.address import dashboard_url
from engine.submission.ray_jobs import RayJobs
from tests.flow.runs import free_port
from tests.submission.web import VERSION, answering


@pytest.fixture(autouse=True)
def _no_address_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "http://127.0.0.1:8265"),
        ("auto", "http://127.0.0.1:8265"),
        ("head", "http://head:8265"),
        ("head:9000", "http://head:9000"),
        ("10.0.0.1:8265", "http://10.0.0.1:8265"),
        ("[::1]:8265", "http://[::1]:8265"),
        ("http://head:8265/", "http://head:8265"),
        ("https://ray.example.org/team", "https://ray.example.org/team"),
    ],
)
def test_a_dashboard(given: str | None, url: str) -> None:
    assert dashboard_url(given) == url


def test_variables_stand_below_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://one:1")
    assert dashboard_url(None) == "http://one:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://two:2")
    assert dashboard_url(None) == "http://two:2"
    assert dashboard_url("http://three:3") == "http://three:3"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ray://head:10001", "Ray Client's; jobs go to the dashboard: http://head:8265"),
        ("head:6379", "the GCS"),
        ("http://head:6379", "http://head:8265"),
        ("anyscale://head", "'anyscale://' is not known"),
        ("http://", "names no host"),
        ("head:port", "http://HOST:8265"),
        ("head:99999", "http://HOST:8265"),
    ],
)
def test_another_door(given: str, words: str) -> None:
    with pytest.raises(RecipeError) as told:
        dashboard_url(given)
    assert words in str(told.value)


def refusal(url: str) -> str:
    with pytest.raises(RecipeError) as told:
        RayJobs.at(url)
    return str(told.value)


def test_nobody_is_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    told = refusal(url)
    assert f"answers at {url} (Connection refused)" in told
    assert "ray start --head" in told


def test_a_cluster_without_its_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gcs:
        monkeypatch.setattr("engine.submission.address._GCS_PORT", gcs.getsockname()[1])
        told = refusal(f"http://127.0.0.1:{free_port()}")
    assert "no dashboard answers" in told
    assert "ssh -L 8265:localhost:8265 127.0.0.1" in told


def test_another_version_is_named_with_ours() -> None:
    with answering({}, (200, json.dumps({"version": "4", "ray_version": "2.9.3"}))) as url:
        told = refusal(url)
    assert "runs Ray 2.9.3" in told
    assert f"here is Ray {ray.__version__}" in told


@pytest.mark.parametrize(
    ("status", "body"), [(404, "no such page"), (200, "<html>hello</html>"), (200, "{}"), (500, "trouble")]
)
def test_some_other_web_server(status: int, body: str) -> None:
    with answering({}, (status, body)) as url:
        assert "the address that is needed is the dashboard's" in refusal(url)


def test_a_token_is_asked_for() -> None:
    with answering({}, (401, "Unauthorized")) as url:
        assert "RAY_AUTH_TOKEN" in refusal(url)


def test_a_port_that_does_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):  # the first only knocks
                connection, _ = server.accept()
                connection.sendall(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00")  # HTTP/2, as gRPC begins
                connection.close()

        Thread(target=answer, daemon=True).start()
        assert "does not speak HTTP" in refusal(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_the_variables_of_ray_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:1")
    with answering(VERSION) as url:
        assert RayJobs.at(url)._client.get_address() == url
        assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://elsewhere:1"
