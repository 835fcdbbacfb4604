"""A disk that fills up: the run stops and says so; with room again it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow import runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("on_ray")]


def test_disk_full(images: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", images)
    small, saved = tmp_path / "small", tmp_path / "saved"
    small.mkdir()
    # A file system of 100 KiB in a mount namespace of the run's own; what was committed is copied out.
    script = (
        'mount -t tmpfs -o size=100k none "$1" && "$2" -m jobs.mine "$3" --out "$1/run"; status=$?; '
        'cp -r "$1/run" "$4"; exit $status'
    )
    isolated = ["unshare", "--user", "--map-root-user", "--mount"]
    command = [*isolated, "sh", "-c", script, "sh", str(small), sys.executable, str(recipe), str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=dict(os.environ))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the disk is full; make room and run the same command again" in done.stderr
    kept = runs.tables(saved)
    assert kept and kept.items() <= undisturbed.items()
    runs.finish(recipe, saved)
    assert runs.tables(saved) == undisturbed
