"""Commands on a run that another process works on: a finished run, so that no Ray is needed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from engine.lease import LEASE
from engine.recipe import load_recipe
from engine.rundir import RunDirectory
from tests import command
from tests.export.runs import mine_by_hand
from tests.process import Run
from tests.training.runs import write_images

HOLD = """
import sys, time
from engine.lease import held
from engine.storage import locate
with held(locate(sys.argv[1]), "connote run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose run, tmp_path/run, is complete."""
    stages = {name: {"generator": "words"} for name in ("describe", "associate", "caption")}
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "images": {"source": "folder", "uri": str(write_images(tmp_path / "images", 4))},
                "run": {"out": str(tmp_path / "run")},
                "generators": {"words": {"backend": "scripted"}},
                **stages,
                "embed": None,
            }
        )
    )
    mine_by_hand(RunDirectory.at(str(tmp_path / "run")), load_recipe(path))
    return path


@pytest.fixture
def holder(recipe: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that works on the run until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def files(root: Path) -> dict[str, bytes]:
    """Everything in a run directory but its lease."""
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != LEASE}


def test_who_writes_leaves_and_who_reads_does_not_ask(
    recipe: Path, holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    before = files(tmp_path / "run")
    encoder = "open_clip:terrarium"
    vectors = ["--set", f"embed={{encoders: ['{encoder}'], texts: [original]}}"]
    for name, section in (
        ("run", []),
        ("cluster", ["--set", f"cluster.encoder='{encoder}'"]),
        ("polysemy", ["--set", f"polysemy={{image_encoder: '{encoder}', text_encoder: '{encoder}'}}"]),
        ("difficulty", ["--set", f"difficulty.voters=['{encoder}']"]),
        ("evaluate", ["--set", f"evaluate.models=['{encoder}']"]),
    ):
        text = command.finish(name, recipe, *(vectors + section if section else []), status=4)
        assert f"connote: left: {tmp_path}/run: `connote run` (process {holder.pid} on" in text
        assert "works on it; let it finish, or stop it" in text and "with --wait" in text
    assert files(tmp_path / "run") == before
    assert "would compute: nothing" in command.finish("status", tmp_path / "run")
    command.finish("show", tmp_path / "run", "--images", "1")
    command.finish("export", tmp_path / "run", tmp_path / "csv", "--to", "csv")


@pytest.mark.parametrize("killed", [True, False])
def test_it_waits_when_told_to(
    recipe: Path, holder: subprocess.Popen[bytes], tmp_path: Path, killed: bool
) -> None:
    process = Run("jobs.mine", recipe, "--wait")
    process.wait_for(lambda: "waiting for it to end" in process.said(), 120)
    assert process.poll() is None
    if killed:
        holder.send_signal(signal.SIGKILL)  # and nobody takes note of its end
    else:
        holder.communicate(b"")
        assert not holder.returncode
    text = process.end(120)
    assert process.returncode == 0 and "4 done before, 0 to do" in text, text
    assert ("is gone: going on in its place" in text) == killed
    assert not (tmp_path / "run" / LEASE).exists()


def test_a_model_that_another_command_trains_is_left_to_it(recipe: Path, tmp_path: Path) -> None:
    from engine.lease import held
    from engine.storage import locate

    more = ["--set", "finetune={method: lora, model: 'open_clip:ViT-B-32/openai', name: mine}"]
    with held(locate(tmp_path / "run" / "models" / "mine"), "connote finetune"):
        text = command.finish("finetune", recipe, *more, status=4)
        assert f"{tmp_path}/run/models/mine: `connote finetune` (process " in text
        # The run itself is free meanwhile, and another model is.
        assert "4 done before, 0 to do" in command.finish("run", recipe)
    assert not (tmp_path / "run" / "models").exists()
