"""The guide: its figures are those of `connote plan`, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from engine.planning.placing import Node, place
from engine.planning.sizing import demands
from engine.recipe import load_recipe, parse_recipe
from engine.stages import build_stages
from jobs.command import app
from tests.cluster.files import CLUSTER, ROOT
from tests.command import finish

GUIDE = (CLUSTER / "README.md").read_text()
COCO = "jobs/recipes/coco.yaml"


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_plan_of_coco_is_what_the_command_prints() -> None:
    command = next(line for line in GUIDE.splitlines() if line.startswith("    connote plan jobs/recipes"))
    said = finish(*command.split()[1:])
    assert "\n".join(("    " + line).rstrip() for line in said.rstrip().splitlines()) in GUIDE


def test_so_is_the_table_of_sizes() -> None:
    rows = re.findall(
        r"^\| ([\d,]+) \| (\d+) \| (\S+) \| (\S+) \| (\S+) \| (\S+ \SB) \|$", GUIDE, re.MULTILINE
    )
    assert len(rows) == 6
    for images, gpus, hours, held, cost, disk in rows:
        sized = ("--images", images.replace(",", ""), "--gpus", gpus, "--set", "generators.vlm.actors=auto")
        said = finish("plan", COCO, *sized, "--gpu-price", "2.5", "--out", "runs/coco")
        assert f"time       {hours} hours once" in said
        assert f"{gpus} reserved for that time: {held} GPU-hours, cost {cost} at 2.50" in said
        assert f"disk       {disk} of tables" in said


def test_two_models_share_a_cluster_as_it_says() -> None:
    block = next(block for block in GUIDE.split("\n\n") if block.startswith("    generators:"))
    both = "images: {source: folder, uri: nowhere}\n" + textwrap.dedent(block)
    both += "\ndescribe: {generator: seer}\nassociate: {generator: seer}\ncaption: {generator: poet}\n"
    recipe = parse_recipe(both.replace("hf:facebook/dinov2-large", "python:tests.flow.encoder:make"))
    wanted, shared = demands(recipe, build_stages(recipe), dict)
    counts = place([Node(96, 8)] * 8, wanted)
    named = ", ".join(f"{n} of {d.name}" for n, d in zip(counts, wanted, strict=True) if d.most is None)
    assert f"actors {named} ({shared})" in " ".join(GUIDE.split())


def test_a_pilot_over_a_folder_measures_the_same_stages() -> None:
    """With what the guide sets, its rates are those of the same fingerprints."""
    pilot = next(
        block for block in GUIDE.split("\n\n") if block.startswith("    connote run coco.yaml --set")
    )
    settings = re.findall(r"--set (\S+)", pilot)
    assert len(settings) == 3
    whole, small = (build_stages(load_recipe(Path(COCO), given)) for given in ([], settings))
    assert [stage.fingerprint for stage in whole] == [stage.fingerprint for stage in small]


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"(?<![\w/-])(?:cluster/|kuberay/|requirements/|jobs/)[A-Za-z0-9_./-]*\w", GUIDE)
    assert len(set(named)) > 10
    for name in set(named):
        assert any((base / name).exists() for base in (ROOT, CLUSTER)), name
    for name in re.findall(r"`([\w-]+\.(?:yaml|sh)|grafana\.json|Containerfile\.\w+)`", GUIDE):
        assert (CLUSTER / name).exists(), name
    for name in re.findall(r"\]\(([^)]+)\)", GUIDE):
        assert (CLUSTER / name).exists(), name


def test_every_command_of_connote_is_one() -> None:
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    named = set(re.findall(r"connote ([a-z]+) (?:coco|RECIPE|RUN|jobs)", GUIDE))
    assert {"plan", "run", "submit", "status"} <= named
    assert named <= known


def test_every_placeholder_is_explained() -> None:
    """What a user has to replace in the files is named in the guide."""
    aws, gcp = (CLUSTER / "aws.yaml").read_text(), (CLUSTER / "gcp.yaml").read_text()
    assert "ami-0000" in aws and "sg-0000" in aws and "subnet-0000" in aws
    assert "the image, the group and a subnet" in GUIDE and "get-parameter" in GUIDE
    assert "my-project" in gcp and "Replace `my-project`" in GUIDE
    assert "connote-node" in gcp and "`connote-node`" in GUIDE
    for text in (aws, gcp):
        assert "registry.example.com/connote" in text


def test_make_setup_installs_another_set_over_the_one_that_is_there(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready").write_text("requirements/cpu.txt\n")
    command = ["make", "-n", "setup"]
    said = [
        subprocess.run([*command, *more], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        for more in ([], ["REQUIREMENTS=requirements/gpu.txt"])
    ]
    assert "Nothing to be done" in said[0]
    assert "-r requirements/gpu.txt" in said[1]
