"""Vectors through the whole flow: alone, beside mining, added later, and killed in mid-run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import save_file

from engine.encoders import EncoderName, load_encoder
from tests.flow import runs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
OWN = "python:tests.flow.encoder:make"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**CONFIG).state_dict(), folder / "weights.safetensors")
    (folder / "tiny.json").write_text(json.dumps(CONFIG))
    return f"open_clip:{folder}/tiny.json/weights.safetensors"


def embedding(path: Path, images: Path, **embed: object) -> Path:
    """A recipe that embeds only."""
    recipe = {
        "images": {"source": "webdataset", "uri": str(images)},
        "run": {"part_rows": runs.PART_ROWS, "max_failed_share": 0.2},
        "embed": {"cpus": 1, **embed},
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_alone(images: Path, clip: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = embedding(tmp_path / "recipe.yaml", images, encoders=[clip], texts=["original"], batch=4)
    text = runs.finish(recipe, out)
    assert "starting embed (embed-images-tiny.json-weights.safetensors, embed-original-tiny" in text
    pictures, captions = runs.rows(out, "embed-images"), runs.rows(out, "embed-original")
    assert len(pictures) == len(captions) == runs.SAMPLES
    broken = {key for key, row in pictures.items() if row["error"]}
    assert broken == {"00003", "00023", "00043"}
    assert all(row["vector"] is None for key, row in pictures.items() if key in broken)
    assert not any(row["error"] for row in captions.values()), "a caption does not need its image"
    encoder = load_encoder(EncoderName.parse(clip))
    expected = encoder.embed_texts(["one colour"])[0].astype(np.float16)
    assert all(np.allclose(row["vectors"], [expected], atol=1e-3) for row in captions.values())
    good = np.array([row["vector"] for key, row in pictures.items() if key not in broken], np.float32)
    assert np.allclose(np.linalg.norm(good, axis=1), 1, atol=2e-3)
    schema = pq.read_schema(next(out.glob("stages/embed-images-*/part-*.parquet")))
    assert schema.field("vector").type == pa.list_(pa.float16(), 24)

    # A second encoder leaves the vectors of the first as they are.
    kept = runs.stamps(out)
    recipe = embedding(tmp_path / "recipe.yaml", images, encoders=[clip, OWN], texts=["original"])
    assert "embed-images-tests.flow.encoder-make" in runs.finish(recipe, out)
    after = runs.stamps(out)
    assert {name: after[name] for name in kept} == kept
    assert len(after) == 4 * runs.PARTS


def test_beside_mining(images: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed = {"encoders": [OWN], "texts": ["original", "mined"], "cpus": 0.5}
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images, embed=embed)
    runs.finish(recipe, out)
    tables = runs.tables(out)
    assert {name: tables[name] for name in undisturbed} == undisturbed, "mining is as it was"
    mined, captions = runs.rows(out, "embed-mined"), runs.rows(out, "caption")
    for key, row in mined.items():
        if captions[key]["error"]:
            assert row["error"] == "skipped: caption failed"
        else:
            assert len(row["vectors"]) == len(captions[key]["creative_captions"])
    state = json.loads((out / "summary.json").read_text())
    assert state["stages"]["embed-mined-tests.flow.encoder-make"]["done"] == runs.SAMPLES
    assert state["failed_samples"] == 3 and state["complete"]
    assert "show" in runs.finish(recipe, out), "asked again, a finished run loads nothing"


KILLED = {"encoders": [OWN], "texts": ["original"], "batch": 3, "cpus": 0.5}


@pytest.fixture(scope="module")
def vectors(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of a run of `KILLED` that nothing disturbed."""
    root = tmp_path_factory.mktemp("vectors")
    runs.finish(embedding(root / "recipe.yaml", images, **KILLED), root / "out")
    return runs.tables(root / "out")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["driver", "actor"])
def test_killed(
    images: Path, vectors: dict[str, bytes], tmp_path: Path, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = embedding(tmp_path / "recipe.yaml", images, **KILLED), tmp_path / "out"
    monkeypatch.setenv("SLOW_COLOURS_S", "0.4")
    process = runs.start(recipe, out)
    process.wait_for(lambda: out.exists() and len(runs.tables(out)) >= 5)
    kept, actors = runs.stamps(out), runs.descendants(process, "PoolActor")
    assert len(kept) < 2 * runs.PARTS
    if victim == "actor":
        for actor in actors:
            actor.kill()
        text = process.end(600)
        assert process.returncode == 0, text
    else:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.wait_for(lambda: not any(actor.is_running() for actor in actors))
        kept = runs.stamps(out)
        monkeypatch.setenv("SLOW_COLOURS_S", "0")
        runs.finish(recipe, out)
    assert runs.tables(out) == vectors
    after = runs.stamps(out)
    assert {name: after[name] for name in kept} == kept, "a committed part was computed again"


def test_what_cannot_be_embedded_is_said(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = embedding(tmp_path / "recipe.yaml", images, encoders=["open_clip:ViT-B-32/openai"])
    assert "write open_clip:ViT-B-32-quickgelu/openai" in runs.finish(recipe, out, status=2)
    recipe = embedding(tmp_path / "recipe.yaml", images, encoders=[OWN], gpus=1)
    assert "reserve 1 GPUs, the cluster has 0: room for 0 of 1 actors of embed" in runs.finish(
        recipe, out, status=2
    )
    assert not (out / "stages").exists() or not list(out.glob("stages/*/part-*")), "nothing half-written"
