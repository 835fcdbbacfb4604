"""Asking whether a directory is the same here and there: both sides, without machines between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import StorageError
from engine.storage import Location, locate, probe
from engine.storage.probe import Probe


def test_a_directory_that_is_shared(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"images")
    (tmp_path / "run").mkdir()
    asked = Probe.leave(locate(tmp_path / "run"), locate(tmp_path / "0.tar"))
    assert asked.answer("node") is None and asked.fault_of("node") is None
    assert "is not seen here" in (asked.fault_of("another") or "")
    asked.clear()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_directory_of_that_name_that_is_another(tmp_path: Path) -> None:
    asked = Probe.leave(locate(tmp_path / "run"), None)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    assert "another directory than the one of that name" in (asked.answer("node") or "")
    assert list((tmp_path / "run").iterdir()) == [], "nothing is left on another's disk"


def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Probe.leave(locate(tmp_path / "run"), None)

    def refuse(place: Location, *_: object, **__: object) -> bool:
        raise StorageError(f"{place.uri}: no permission")

    monkeypatch.setattr(Location, "write_bytes", refuse)
    assert asked.answer("node") == f"{tmp_path}/run: no permission"


def test_images_are_a_nodes_fault_only_if_they_can_be_read_here(tmp_path: Path) -> None:
    file = tmp_path / "0.tar"
    assert Probe.leave(locate(tmp_path), locate(file)).source is None
    file.write_bytes(b"images")
    asked = Probe.leave(locate(tmp_path), locate(file))
    file.unlink()
    assert asked.answer("node") == f"{file}: does not exist; check the path"


def test_variables_are_compared_without_being_sent(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "miners")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    asked = Probe.leave(Location(f"{bucket}/run"), Location(f"{bucket}/0.tar"))
    assert "miners" not in repr(asked) and asked.answer("node") is None
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    elsewhere = replace(asked, root=Location("s3://nowhere/run"))
    fault = elsewhere.answer("node") or ""
    assert fault.startswith("s3://nowhere/run: ")
    assert "not set there, but where this command runs: AWS_PROFILE" in fault
    assert "of another value than where this command runs: AWS_REGION" in fault
    asked.clear()


def test_a_store_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    asked = Probe.leave(locate(tmp_path), None)
    monkeypatch.setattr(probe, "LIMIT_S", 0.1)
    monkeypatch.setattr(Location, "exists", lambda _: threading.Event().wait(5))
    assert asked.answer("node") == f"{tmp_path}: does not answer within 0.1 s"
