"""The WebDataset form, read by webdataset and by open_clip's own loader."""

from __future__ import annotations

import inspect
import io
import json
import shlex
import tarfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import webdataset
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from engine.export import ExportSettings, export_run
from engine.schema import LEVELS
from tests.export.runs import Made, make_run, many, picture

pytestmark = pytest.mark.usefixtures("handmade_catalog")


def load(target: Path) -> list[dict[str, Any]]:
    urls = [str(path) for path in sorted(target.glob("*.tar"))]
    return list(webdataset.WebDataset(urls, shardshuffle=False))


def test_webdataset_reads_every_sample(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(5))
    list(export_run(run, str(tmp_path / "out"), ExportSettings("webdataset", shard_images=2)))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [
        "00000.tar",
        "00001.tar",
        "00002.tar",
    ]
    samples = load(tmp_path / "out")
    assert [sample["__key__"] for sample in samples] == [f"{i:012d}" for i in range(5)]
    for index, sample in enumerate(samples):
        record = json.loads(sample["json"])
        assert sample["jpg"] == picture(index)
        assert record["key"] == sample["__key__"]
        assert [caption["level"] for caption in record["captions"]] == list(LEVELS)
        assert record["caption"]["caption"].encode() == sample["txt"]
        assert record["caption"] in record["captions"]
        assert record["elements"][0]["metaphor"] == ["anchor"]
    assert len({json.loads(sample["json"])["caption"]["level"] for sample in samples}) > 1


def test_draw_leaves_one_caption(tmp_path: Path) -> None:
    run = make_run(tmp_path, many(3))
    list(export_run(run, str(tmp_path / "out"), ExportSettings("webdataset", draw=True)))
    for sample in load(tmp_path / "out"):
        record = json.loads(sample["json"])
        assert record["captions"] == [record["caption"]]


def test_open_clip_trains_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pytest.importorskip("open_clip_train.data")
    if "eof_value" in inspect.signature(data.tar_file_expander).parameters:
        # open_clip 3.3 asks for webdataset <= 0.2.86: later ones end each tar with a marker that it
        # does not know (mlfoundations/open_clip issue 935).
        monkeypatch.setattr(data, "tar_file_expander", partial(data.tar_file_expander, eof_value=None))
    run = make_run(tmp_path, many(9))
    lines = list(export_run(run, str(tmp_path / "out"), ExportSettings("open_clip", shard_images=4)))
    command = shlex.split(next(line for line in lines if "open_clip_train.main" in line).split(": ", 1)[1])
    options = dict(zip(command[3::2], command[4::2], strict=True))
    args = SimpleNamespace(
        train_data=options["--train-data"],
        train_num_samples=None,  # sizes.json tells
        dataset_resampled=False,
        train_data_upsampling_factors=None,
        seed=0,
        batch_size=3,
        workers=1,
        world_size=1,
    )

    def tokenize(text: str) -> torch.Tensor:
        return torch.tensor([[ord(c) for c in text.ljust(40)]])

    info = data.get_wds_dataset(args, pil_to_tensor, is_train=True, tokenizer=tokenize)
    assert info.dataloader.num_samples == 9 == int(options["--train-num-samples"])
    args.workers = 0
    info = data.get_wds_dataset(args, pil_to_tensor, is_train=True, tokenizer=tokenize)
    batches = list(info.dataloader)
    texts = ["".join(map(chr, row)).strip() for _, tokens in batches for row in tokens.tolist()]
    assert all(images.shape == (3, 3, 16, 24) for images, _ in batches)
    assert sorted(text.split()[-1] for text in texts) == [f"{i:012d}" for i in range(9)]
    for images, tokens in batches:
        for image, row in zip(images, tokens.tolist(), strict=True):
            number = int("".join(map(chr, row)).split()[-1])
            expected = pil_to_tensor(Image.open(io.BytesIO(picture(number))).convert("RGB"))
            assert torch.equal(image, expected)


def test_hostile_keys_become_safe_and_stay_apart(tmp_path: Path) -> None:
    keys = [
        "../../etc/passwd",
        "a/b.c",
        "a/b.c",
        "Same",
        "same",
        "SAME",
        "",
        "naïve\n",
        "x" * 300,
        "/root",
        "-rf",
    ]
    run = make_run(tmp_path, [Made(key, picture(i)) for i, key in enumerate(keys)])
    list(export_run(run, str(tmp_path / "out"), ExportSettings("webdataset")))
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        names = tar.getnames()
    stems = [name.split(".")[0] for name in names]
    assert len(names) == 3 * len(keys)
    assert len({stem.casefold() for stem in stems}) == len(keys)
    assert all(name.count(".") == 1 and "/" not in name and len(name) < 200 for name in names)
    assert [json.loads(sample["json"])["key"] for sample in load(tmp_path / "out")] == keys


def test_other_formats_become_png_and_broken_ones_are_counted(tmp_path: Path) -> None:
    made = [
        Made("gif", picture(1, "GIF")),
        Made("webp", picture(2, "WEBP")),
        Made("junk", b"GIF89a no image"),
        Made("gone", b""),
    ]
    run = make_run(tmp_path, made)
    lines = list(export_run(run, str(tmp_path / "out"), ExportSettings("webdataset")))
    first, second = load(tmp_path / "out")
    assert Image.open(io.BytesIO(first["png"])).size == (24, 16)
    assert second["webp"] == picture(2, "WEBP")
    left_out = next(line for line in lines if "images without captions" in line)
    assert "2 images" in left_out and "cannot be converted" in left_out and "cannot be read" in left_out


def test_the_json_holds_original_captions_when_wanted(tmp_path: Path) -> None:
    run = make_run(tmp_path, [Made("k", picture(0), captions=["one\nline", "two"], extra='{"a": [1]}')])
    list(export_run(run, str(tmp_path / "out"), ExportSettings("webdataset", captions="original")))
    (sample,) = load(tmp_path / "out")
    record = json.loads(sample["json"])
    assert [caption["caption"] for caption in record["captions"]] == ["one\nline", "two"]
    assert record["extra"] == {"a": [1]}
