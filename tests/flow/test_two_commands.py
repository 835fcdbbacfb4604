"""Two commands on one run directory: the second leaves, or waits for the first to end or to die."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests import command
from tests.flow import runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("on_ray")]


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_command_leaves_or_waits(
    images: Path, undisturbed: dict[str, bytes], tmp_path: Path, killed: bool
) -> None:
    recipe, out = runs.write_recipe(tmp_path / "recipe.yaml", images, delay_s=0.1), tmp_path / "out"
    first = runs.start(recipe, out)
    first.wait_for(lambda: out.exists() and bool(runs.tables(out)))
    text = runs.finish(recipe, out, status=4)
    assert f"connote: left: {out}: `connote run` (process {first.pid} on" in text
    assert "with --wait this command waits for it" in text
    assert "a run with this recipe would compute" in command.finish("status", out), "who only reads may"
    second = runs.start(recipe, out, "--wait")
    second.wait_for(lambda: "waiting for it to end" in second.said())
    if killed:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert len(runs.tables(out)) < 3 * runs.PARTS, "the kill came too late to show anything"
    else:
        text = first.end()
        assert first.returncode == 0, text
    text = second.end()
    assert second.returncode == 0, text
    assert ("is gone: going on in its place" in text) == killed
    assert ("60 done before, 0 to do" in text) != killed
    assert runs.tables(out) == undisturbed
    assert not (out / "lease.json").exists()
