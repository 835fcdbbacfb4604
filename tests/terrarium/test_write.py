"""The tars of scenes."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.terrarium.grammar import description
from engine.terrarium.render import render
from engine.terrarium.world import TRAINING_SEED, scene
from engine.terrarium.write import write_shards


def test_tars_hold_image_caption_and_truth(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, scenes=7, shard_rows=3, seed=2)
    assert [path.name for path in paths] == [f"terrarium-00000{n}.tar" for n in range(3)]
    members = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                file = tar.extractfile(member)
                assert file is not None
                members[member.name] = file.read()
    assert len(members) == 21
    for index in range(7):
        one, key = scene(2, index), f"000002-{index:08d}"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(members[f"{key}.png"]))), render(one))
        assert members[f"{key}.txt"].decode() == description(one)
        truth = json.loads(members[f"{key}.json"])
        assert [item["kind"] for item in truth["elements"]] == list(one.kinds)
        assert set(truth["associations"]) == set(one.kinds)


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
