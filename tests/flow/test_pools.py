"""Pools that grow with the work, and the ways of describing and choosing that need more than a script."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from engine.terrarium import MODEL_DIR
from tests.flow import runs
from tests.process import Run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

PHOTOGRAPHS = Path(__file__).parents[1] / "data"


def test_a_pool_grows_with_the_work(images: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = {"backend": "scripted", "delay_s": 1.0, "actors": {"min": 1, "max": 3}, "cpus": 0.25}
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml",
        images,
        generators={"seer": script, "poet": {**script, "actors": 1}},
        run={"part_rows": runs.PART_ROWS, "parts_in_flight": 2, "max_failed_share": 0.2},
    )
    runs.finish(recipe, out)
    assert runs.tables(out) == undisturbed, "how many actors there were decides nothing"
    pools = json.loads((out / "summary.json").read_text())["session"]["pools"]
    actors = {name.split()[0]: pool["actors"] for name, pool in pools.items()}
    assert 1 < actors["seer"] <= 3 and actors["poet"] == 1


def test_elements_by_concreteness_from_the_captions_of_a_coco_set(tmp_path: Path) -> None:
    folder, out = tmp_path / "photographs", tmp_path / "out"
    folder.mkdir()
    captions = {
        "astronaut-grey.jpg": ["an astronaut smiles before a flag"],
        "cat.jpg": ["the cat looks at hope"],
        "coffee-palette.png": [],
        "rocket-cmyk.jpg": ["of the and"],
    }
    images, annotations = [], []
    for number, (name, texts) in enumerate(captions.items()):
        (folder / name).write_bytes((PHOTOGRAPHS / name).read_bytes())
        images.append({"id": number, "file_name": name})
        annotations += [{"id": number, "image_id": number, "caption": text} for text in texts]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    table = tmp_path / "ratings.csv"
    table.write_text("Word,Conc.M\nflag,4.9\nastronaut,4.8\ncat,4.9\nhope,1.2\nsmile,3.9\n")
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml",
        folder,
        images={"source": "coco", "uri": str(folder), "annotations": str(tmp_path / "captions.json")},
        associate={
            "generator": "seer",
            "select": "concreteness",
            "concreteness": str(table),
            "elements": 2,
        },
        run={"max_failed_share": 0.5},
    )
    runs.finish(recipe, out)
    associated, captioned = runs.rows(out, "associate"), runs.rows(out, "caption")
    chosen = {key: [e["element"] for e in row["elements"] or []] for key, row in associated.items()}
    assert chosen == {
        "astronaut-grey": ["flag", "astronaut"],
        "cat": ["cat", "hope"],
        "coffee-palette": [],
        "rocket-cmyk": [],
    }
    failed = {key: row["error"] for key, row in associated.items() if row["error"]}
    assert sorted(failed) == ["coffee-palette", "rocket-cmyk"], failed
    assert len(captioned["cat"]["creative_captions"]) == 2 * 5

    # Another rating is another choice: what was associated by the old one is not taken for it.
    table.write_text(table.read_text().replace("hope,1.2", "hope,5"))
    runs.finish(recipe, out)
    elements = next(
        row["elements"]
        for path in max(out.glob("stages/associate-*"), key=lambda p: p.stat().st_mtime).glob("part-*")
        for row in pq.read_table(path).to_pylist()
        if row["key"] == "cat"
    )
    assert [e["element"] for e in elements] == ["hope", "cat"]


@pytest.fixture
def server() -> Iterator[str]:
    """The embedded model behind vLLM's own server, as a user starts it."""
    port = runs.free_port()
    options = ["--port", str(port), "--served-model-name", "terrarium", "--enforce-eager"]
    sizes = ["--max-num-seqs", "64", "--kv-cache-memory-bytes", str(2**30), "--block-size", "32"]
    module = "vllm.entrypoints.openai.api_server"
    process = Run(module, "--model", MODEL_DIR, *options, *sizes, "--no-enable-chunked-prefill")
    url = f"http://127.0.0.1:{port}/v1"
    process.wait_for(lambda: answers(f"{url}/models"), seconds=480)
    yield url
    process.terminate()
    process.end(60)


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
        return bool(response.status == 200)
    time.sleep(0.5)
    return False


@pytest.mark.vllm
@pytest.mark.slow
def test_a_run_on_a_server(server: str, tmp_path: Path) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    subprocess.run(
        [sys.executable, "-m", "engine.terrarium.write", str(scenes), "--scenes", "16"], check=True
    )
    whole = yaml.safe_load(Path("jobs/recipes/terrarium.yaml").read_text())
    # Sixteen scenes are too few for the sections that measure them.
    recipe = {
        name: whole[name] for name in ("images", "run", "generators", "describe", "associate", "caption")
    }
    remote = {"backend": "openai", "model": "terrarium", "base_url": server, "cpus": 0.5}
    recipe["generators"] = dict.fromkeys(recipe["generators"], remote)
    recipe["images"] = {"source": "webdataset", "uri": str(scenes)}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    runs.finish(path, out)
    captioned = runs.rows(out, "caption")
    assert len(captioned) == 16 and not any(row["error"] for row in captioned.values())
    assert all(len(row["creative_captions"]) >= 5 for row in captioned.values())
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] and summary["session"]["output_tokens_per_s"] > 0
