"""The tars of scenes."""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.terrarium.families import family_scene
from engine.terrarium.grammar import description
from engine.terrarium.render import render
from engine.terrarium.world import TRAINING_SEED, scene
from engine.terrarium.write import main, write_shards


def contents(paths: list[Path]) -> dict[str, bytes]:
    members = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                file = tar.extractfile(member)
                assert file is not None
                members[member.name] = file.read()
    return members


def test_tars_hold_image_caption_and_truth(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, scenes=7, shard_rows=3, seed=2)
    assert [path.name for path in paths] == [f"terrarium-00000{n}.tar" for n in range(3)]
    members = contents(paths)
    assert len(members) == 21
    for index in range(7):
        one, key = scene(2, index), f"000002-{index:08d}"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(members[f"{key}.png"]))), render(one))
        assert members[f"{key}.txt"].decode() == description(one)
        truth = json.loads(members[f"{key}.json"])
        assert [item["kind"] for item in truth["elements"]] == list(one.kinds)
        assert set(truth["associations"]) == set(one.kinds)
        assert "family" not in truth


def test_tars_of_families_name_the_family(tmp_path: Path) -> None:
    members = contents(write_shards(tmp_path, scenes=9, shard_rows=4, seed=2, families=True))
    assert len(members) == 27
    for index in range(9):
        (family, one), key = family_scene(2, index), f"000002-{index:08d}"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(members[f"{key}.png"]))), render(one))
        assert members[f"{key}.txt"].decode() == description(one)
        truth = json.loads(members[f"{key}.json"])
        assert truth["family"] == family.name
        assert truth["ground"] == family.ground
        assert [item["kind"] for item in truth["elements"]] == list(one.kinds)


@pytest.mark.parametrize("families", [False, True])
def test_a_scene_does_not_depend_on_the_others(tmp_path: Path, families: bool) -> None:
    many = contents(write_shards(tmp_path / "a", scenes=8, shard_rows=3, seed=5, families=families))
    few = contents(write_shards(tmp_path / "b", scenes=6, shard_rows=6, seed=5, families=families))
    assert few == {name: many[name] for name in few}


def test_the_command_line_writes_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["write", str(tmp_path / "a"), "--scenes", "3", "--families"])
    main()
    wanted = write_shards(tmp_path / "b", scenes=3, shard_rows=250, seed=0, families=True)
    written = sorted((tmp_path / "a").iterdir())
    assert contents(written) == contents(wanted)


def test_tars_are_the_same_bytes_again(tmp_path: Path) -> None:
    first = write_shards(tmp_path / "a", scenes=5, shard_rows=5, seed=1)
    again = write_shards(tmp_path / "b", scenes=5, shard_rows=5, seed=1)
    other = write_shards(tmp_path / "c", scenes=5, shard_rows=5, seed=3)
    assert first[0].read_bytes() == again[0].read_bytes() != other[0].read_bytes()


@pytest.mark.parametrize(
    ("scenes", "rows", "seed"), [(0, 1, 0), (1, 0, 0), (1, 1, -1), (1, 1, TRAINING_SEED)]
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, scenes: int, rows: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        write_shards(tmp_path, scenes, rows, seed)
