"""The container files: what goes in, as whom it runs, and that nothing is missing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, ROOT

KINDS = ["cpu", "gpu"]


def instructions(kind: str) -> list[tuple[str, str]]:
    """The instructions of a container file: names and what follows, lines that go on joined."""
    text = "\n".join(line for line in path(kind).read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in pairs]


def path(kind: str) -> Path:
    return CLUSTER / f"Containerfile.{kind}"


def environment(kind: str) -> dict[str, str]:
    words = [w for name, rest in instructions(kind) if name == "ENV" for w in shlex.split(rest)]
    return dict(word.partition("=")[::2] for word in words)


def kept(name: str) -> bool:
    """Whether .containerignore lets a file in: the last line that fits it, or a folder above, decides."""
    decided = True
    for line in (ROOT / ".containerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if not line or line.startswith("#"):
            continue
        whole = Path(name).parts
        tried = [
            *("/".join(whole[: n + 1]) for n in range(len(whole))),
            *(whole if line.startswith("**/") else ()),
        ]
        if any(fnmatch(each, pattern) and each.count("/") == pattern.count("/") for each in tried):
            decided = line.startswith("!")
    return decided


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout, so what would go into an image is not known")
    return listed.stdout.splitlines()


def sources(kind: str) -> list[str]:
    return [shlex.split(rest)[0] for name, rest in instructions(kind) if name == "COPY"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_as_somebody_who_is_not_root(kind: str) -> None:
    assert [rest for name, rest in instructions(kind) if name == "USER"] == ["1000:1000"]
    after = [name for name, _ in instructions(kind)]
    assert "RUN" not in after[after.index("USER") :], "nothing is set up by a user who may not"
    assert any("useradd --uid 1000" in rest for _, rest in instructions(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_python_and_packages_are_the_pinned_ones(kind: str) -> None:
    (base,) = (rest for name, rest in instructions(kind) if name == "FROM")
    assert re.search(r"^python:3\.11-", base)
    runs = " ".join(rest for name, rest in instructions(kind) if name == "RUN")
    assert f"uv pip install --no-cache --no-deps -r requirements/{kind}.txt" in runs
    assert re.search(r"uv==\d", runs)
    assert not any(name == "ADD" for name, _ in instructions(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_lie_on_the_volume(kind: str) -> None:
    (volume,) = (rest for name, rest in instructions(kind) if name == "VOLUME")
    found = environment(kind)
    assert found["HF_HOME"].startswith(f"{volume}/") and found["XDG_CACHE_HOME"].startswith(f"{volume}/")
    assert found["PATH"].startswith("/opt/venv/bin:") and found["VIRTUAL_ENV"] == "/opt/venv"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_copied_is_let_in_and_nothing_else_is(kind: str) -> None:
    files = tracked()
    for source in sources(kind):
        below = [name for name in files if name == source or name.startswith(f"{source}/")]
        assert below and all(map(kept, below)), source
    assert not any(
        map(kept, ["runs/demo/images/0.tar", ".git/config", ".venv/bin/python", "data.tar", "docs/a.png"])
    )
    assert not any(map(kept, ["engine/__pycache__/a.pyc", "connote.egg-info/PKG-INFO", "tests/data/cat.jpg"]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_copied_is_enough(kind: str, tmp_path: Path) -> None:
    """The files that go into the image, and no others, plan a recipe and read the paper's figures."""
    for name in tracked():
        if any(name == source or name.startswith(f"{source}/") for source in sources(kind)):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    code = (
        "from pathlib import Path; import engine; from engine.evaluation.reference import _FOLDER; "
        "assert (_FOLDER / 'imp_tables.csv').exists(), _FOLDER; from jobs.command import main; main()"
    )
    plan = ["plan", "jobs/recipes/terrarium.yaml", "--images", "480"]
    found = subprocess.run(
        [sys.executable, "-c", code, *plan],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "images     480 (given)" in found.stdout


def test_both_differ_only_in_what_a_gpu_needs() -> None:
    assert [name for name, _ in instructions("cpu")] == [name for name, _ in instructions("gpu")]
    more = environment("gpu").keys() - environment("cpu").keys()
    assert more == {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}


def test_docker_reads_the_same_list() -> None:
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()
