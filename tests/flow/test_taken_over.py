"""A run on Ray whose directory another command has taken over."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine.lease import Holder
from engine.storage import locate
from tests.flow import runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("on_ray")]


def test_a_run_that_was_taken_over_leaves(
    images: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """As when its machine slept and another one followed: it finds out at its next renewal."""
    recipe, out = runs.write_recipe(tmp_path / "recipe.yaml", images, delay_s=1.0), tmp_path / "out"
    process = runs.start(recipe, out)
    process.wait_for(lambda: out.exists() and bool(runs.tables(out)))
    other = replace(Holder.of_this_process("connote run", 45), host="server", kernel="another")
    for _ in range(2):  # a renewal that is under way writes over it once
        locate(out / "lease.json").write_bytes(other.content(1))
        time.sleep(0.5)
    text = process.end()
    assert process.returncode == 4, text
    assert (
        "connote: left: " in text and "on server, since" in text and "has taken this directory over" in text
    )
    made = runs.tables(out)
    assert 0 < len(made) < 3 * runs.PARTS, "it was not stopped on the way"
    assert all(undisturbed[name] == data for name, data in made.items())
    assert Holder.parse((out / "lease.json").read_bytes()) == other
