"""Two commands on one run directory: the second leaves, or waits for the first to end or to die."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from engine.lease import Holder
from engine.storage import locate
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


def test_a_run_that_was_taken_over_leaves(
    images: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """As when its machine slept and another one followed: it finds out at its next renewal."""
    recipe, out = runs.write_recipe(tmp_path / "recipe.yaml", images, delay_s=1.0), tmp_path / "out"
    process = runs.start(recipe, out)
    process.wait_for(lambda: out.exists() and bool(runs.tables(out)))
    other = replace(Holder.of_this_process("connote run", 45), host="server", kernel="another")
    locate(out / "lease.json").write_bytes(other.content(1))
    text = process.end()
    assert process.returncode == 4, text
    assert (
        "connote: left: " in text and "on server, since" in text and "has taken this directory over" in text
    )
    made = runs.tables(out)
    assert 0 < len(made) < 3 * runs.PARTS, "it was not stopped on the way"
    assert all(undisturbed[name] == data for name, data in made.items())
    assert Holder.parse((out / "lease.json").read_bytes()) == other
