from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import StorageError
from engine.storage import Location, locate
from engine.storage.location import explained
from engine.training import checkpoint_files
from engine.training.checkpoint import Checkpoints
from tests.training.checkpoints import FILES, holds, names, newest_step, save, saved, state_at, weights_at


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def cut(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:-1])


def flip(place: Path) -> None:
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)


def empty(place: Path) -> None:
    place.write_bytes(b"")


def lengthen(place: Path) -> None:
    place.write_bytes(place.read_bytes() + b"\0")


DAMAGE = [
    *((name, harm) for name in FILES[1:] for harm in (Path.unlink, cut, flip, empty, lengthen)),
    *(("checkpoint.json", harm) for harm in (cut, empty)),
    *(
        ("checkpoint.json", lambda place, text=text: place.write_text(text))
        for text in (
            "[]",
            "null",
            "{}",
            "[" * 100_000,
            '{"step": 3, "score": "high", "files": {}}',
            '{"step": 3, "score": null, "files": []}',
            '{"step": 3, "score": null, "files": {"weights.safetensors": 7}}',
        )
    ),
]


@pytest.mark.parametrize(("name", "harm"), DAMAGE)
def test_a_broken_one_is_passed_over(
    tmp_path: Path, no_waiting_for_the_disk: None, name: str, harm: Callable[[Path], None]
) -> None:
    said: list[str] = []
    saved(tmp_path, 3, 1, 2, 3)
    harm(tmp_path / "step-00000003" / name)
    checkpoints = Checkpoints(locate(tmp_path), 2, said.append)
    assert holds(checkpoints.newest(), 2)
    assert len(said) == 1 and f"step-00000003/{name}" in said[0]
    assert said[0].endswith("; step-00000002 is used instead")
    save(checkpoints, 3)  # training comes there again
    checkpoints.wait()
    assert holds(Checkpoints(locate(tmp_path), 2, said.append).newest(), 3) and len(said) == 1
    assert len(names(tmp_path)) == 2, "the broken one is gone, and has not cost a good one its place"


def test_broken_ones_do_not_count_among_those_kept(tmp_path: Path) -> None:
    saved(tmp_path, 3, 1, 2, 3)
    flip(tmp_path / "step-00000003" / "weights.safetensors")
    checkpoints = Checkpoints(locate(tmp_path), 2, lambda _: None)
    assert holds(checkpoints.newest(), 2)
    save(checkpoints, 4)
    checkpoints.wait()
    assert names(tmp_path) == ["step-00000002", "step-00000004"]


def test_a_new_one_stays_though_later_steps_lie_there(tmp_path: Path) -> None:
    saved(tmp_path, 1, 20)
    flip(tmp_path / "step-00000020" / "state.json")
    checkpoints = Checkpoints(locate(tmp_path), 1, lambda _: None)
    assert checkpoints.newest() is None
    save(checkpoints, 5)
    assert holds(checkpoints.newest(), 5)
    save(checkpoints, 20)
    assert holds(checkpoints.newest(), 20) and names(tmp_path) == ["step-00000020-1"]


def test_a_name_that_was_broken_once_can_be_used_again(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2, say=lambda _: None)
    flip(tmp_path / "step-00000002" / "state.json")
    assert checkpoints.newest() is None
    save(checkpoints, 2)
    save(checkpoints, 3)
    checkpoints.wait()
    assert names(tmp_path) == ["step-00000003"]
    flip(tmp_path / "step-00000003" / "state.json")
    assert checkpoints.newest() is None
    save(checkpoints, 2)
    assert holds(checkpoints.newest(), 2) and holds(checkpoints.at(2), 2)


def test_nothing_usable(tmp_path: Path) -> None:
    said: list[str] = []
    saved(tmp_path, 2, 1, 2)
    flip(tmp_path / "step-00000001" / "state.json")
    (tmp_path / "step-00000002" / "weights.safetensors").unlink()
    assert Checkpoints(locate(tmp_path), 1, said.append).newest() is None
    assert [line.split("/")[-2] for line in said] == ["step-00000002", "step-00000001"]
    assert all("there is no whole one before it" in line for line in said)
    with pytest.raises(StorageError, match="no whole checkpoint of step 2"):
        Checkpoints(locate(tmp_path), 1, said.append).at(2)


def test_right_digests_of_senseless_files(tmp_path: Path) -> None:
    saved(tmp_path, 2, 1)
    place = locate(tmp_path / "step-00000002")
    good = checkpoint_files.contents(weights_at(2), state_at(2))
    for bad in (
        {"state.json": memoryview(b"{")},
        {"state.json": memoryview(b'{"$tensor": "nowhere"}')},
        {"state.json": memoryview(b"[" * 100_000)},
        {"state.json": memoryview(b"\xff")},
        {"weights.safetensors": memoryview(b"\xff" * 64)},
        {"state.safetensors": memoryview(b"")},
    ):
        checkpoint_files.write(place, 2, {**good, **bad}, None)
        assert holds(Checkpoints(locate(tmp_path), 1, lambda _: None).newest(), 1)


def test_strangers_in_the_directory(tmp_path: Path) -> None:
    for name in ("step-00000009", "step-1", "step-00000008.old", ".step-00000007", "step-0000000x"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000006").write_text("a file")
    (tmp_path / "notes.txt").write_text("mine")
    checkpoints = saved(tmp_path, 1, 1)
    assert holds(checkpoints.newest(), 1) and newest_step(locate(tmp_path)) == 1
    assert "notes.txt" in names(tmp_path) and "step-00000008.old" in names(tmp_path)
    assert "step-00000009" not in names(tmp_path), "an unfinished one"


def test_storage_that_fails_is_no_broken_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints, plain = saved(tmp_path, 2, 1, 2), Location.read_bytes

    def failing(number: int) -> Callable[..., bytes]:
        def read(self: Location, *given: Any) -> bytes:
            if "step-00000002" not in self.uri:
                return plain(self, *given)
            with explained(self):
                raise OSError(number, os.strerror(number))

        return read

    monkeypatch.setattr(Location, "read_bytes", failing(errno.EACCES))
    with pytest.raises(StorageError, match="no permission"):
        checkpoints.newest()
    monkeypatch.setattr(Location, "read_bytes", failing(errno.EIO))
    assert holds(checkpoints.newest(), 1), "one whose disk has lost it is broken"


def test_loading_is_strict(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 1, 5).newest()
    assert checkpoint is not None
    own = {"w": torch.zeros(3), "u": torch.zeros(1)}
    with pytest.raises(StorageError, match=r"step-00000005: .*missing: u; unexpected: v"):
        checkpoint.load_into(own)
    assert not own["w"].any()
    with pytest.raises(StorageError, match=r"of another shape: v \(\) instead of \(1,\)"):
        checkpoint.load_into({"w": torch.zeros(3), "v": torch.zeros(1)})
    weights, state = checkpoint.read(torch.device("meta"))
    assert {value.device.type for value in weights.values()} == {"meta"}
    assert state["optimizer"]["state"][0]["m"].device.type == "cpu"


@pytest.mark.usefixtures("bucket")
def test_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    place = locate("s3://photos/run/models/full/checkpoints")
    checkpoints = Checkpoints(place, 1)
    assert checkpoints.newest() is None and newest_step(place) == -1
    for step in (1, 2, 3):
        save(checkpoints, step, 0.5 if step == 1 else None)
    assert holds(checkpoints.newest(), 3) and holds(checkpoints.best(), 1) and newest_step(place) == 3
    assert [info.base_name for info in place.entries()] == ["step-00000001", "step-00000003"]
    (place / "step-00000003" / "state.json").delete()
    said: list[str] = []
    assert holds(Checkpoints(place, 1, said.append).newest(), 1)
    assert said == [f"{place.uri}/step-00000003/state.json is missing; step-00000001 is used instead"]
    (place / "step-00000003" / "checkpoint.json").delete()
    save(checkpoints, 4, 0.7)
    checkpoints.close()
    assert [info.base_name for info in place.entries()] == ["step-00000004"]
