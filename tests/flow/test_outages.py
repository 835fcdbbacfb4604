"""An object store that goes away in mid-run, for seconds or for good."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.storage import Location
from tests.door import Door
from tests.flow import runs
from tests.process import Run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("on_ray")]


def stored(out: str) -> dict[str, bytes]:
    """Every committed stage table of a run on an object store, by its path in the run directory."""
    place = Location(out)
    found = (place / "stages").entries(recursive=True)
    names = [info.path.split("/run/")[1] for info in found if info.base_name.startswith("part-")]
    return {name: (place / name).read_bytes() for name in names}


@pytest.fixture
def door(s3_server: str, bucket: str, images: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    """Between the store, which holds the images, and what is started from now on; the test is inside."""
    for path in images.glob("*.tar"):
        (Location(bucket) / "images" / path.name).write_bytes(path.read_bytes())
    door = Door(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", door.url)
    return door


def begun(bucket: str, recipe: Path) -> Run:
    """A run of which some tables are committed."""
    process = runs.start(recipe, f"{bucket}/run", "--set", f"images.uri={bucket}/images")
    process.wait_for(lambda: len(stored(f"{bucket}/run")) >= 3)
    return process


def test_it_comes_back_within_seconds(
    door: Door, bucket: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", Path("unused"), delay_s=0.3)
    process = begun(bucket, recipe)
    door.shut()
    assert len(stored(f"{bucket}/run")) < 3 * runs.PARTS, "it went too late to show anything"
    passed = door.passed
    time.sleep(8)  # so long it is away; a request is made again for 25 s
    door.open()
    said = process.end(300)
    assert process.returncode == 0, said
    assert door.passed > passed, "it went on over new connections"
    assert stored(f"{bucket}/run") == undisturbed


def test_it_stays_away(
    door: Door,
    bucket: str,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")  # for 3 s
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", Path("unused"), delay_s=0.3)
    process = begun(bucket, recipe)
    door.shut()
    time.sleep(1)  # what had reached the store before may yet become a table
    kept = stored(f"{bucket}/run")
    said = process.end(300)
    assert process.returncode == 3, said
    assert "connote: stopped: " in said and "the store does not answer" in said
    assert "AWS_ENDPOINT_URL" in said and "Traceback" not in said
    assert stored(f"{bucket}/run") == kept and 3 <= len(kept) < 3 * runs.PARTS
    door.open()
    runs.finish(recipe, f"{bucket}/run", "--set", f"images.uri={bucket}/images")
    assert stored(f"{bucket}/run") == undisturbed
