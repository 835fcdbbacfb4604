"""Real clusters of two nodes, started by the commands that are in cluster/."""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

import pytest

from tests import command as command_line
from tests.cluster.files import CLUSTER, ROOT, one
from tests.cluster.nodes import ADDRESSES, two_nodes
from tests.cluster.test_grafana import KNOWN
from tests.cluster.test_ray_up import ray_start
from tests.flow import runs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]

JOB = "4711"  # of Slurm
#: Stands for Slurm: hands the command to the other node, and becomes it here.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
{ export -p; printf 'cd %q\\n' "$PWD"; printf 'exec'; printf ' %q' "$@"; echo; } > step.part
mv step.part step.sh
exec "$@"
"""
SLURMD = "until [[ -e step.sh ]]; do sleep 0.1; done; exec bash step.sh"
#: Reads what Prometheus would: the pages of all the nodes that Ray lists.
SCRAPE = """
import json, urllib.request
for entry in json.load(open("/tmp/ray/prom_metrics_service_discovery.json")):
    for target in entry["targets"]:
        print(urllib.request.urlopen(f"http://{target}/metrics", timeout=10).read().decode())
"""
#: The project as it lies here, whatever is installed; metrics are told every second.
HERE = {
    "PYTHONPATH": str(ROOT),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "RAY_metrics_report_interval_ms": "1000",
}


def write_recipe(tmp_path: Path, delay_s: float) -> Path:
    """Two actors, of which a node with two CPUs carries one."""
    seer = {
        "backend": "scripted",
        "script": "tests.cluster.hosts:answer",
        "delay_s": delay_s,
        "actors": 2,
        "cpus": 1.5,
    }
    stages = {name: {"generator": "seer"} for name in ("describe", "associate", "caption")}
    images = runs.write_tars(tmp_path / "images")
    return runs.write_recipe(tmp_path / "recipe.yaml", images, generators={"seer": seer}, **stages)


def test_the_commands_of_ray_up_make_a_cluster(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, delay_s=1.5)  # a quarter of a minute, in which metrics can be read
    out, log, config = tmp_path / "out", tmp_path / "log", one(CLUSTER / "aws.yaml")
    environments = []
    for name in ("ours", "a stranger's"):
        (tmp_path / name).write_text(secrets.token_hex(32))
        environments.append({**HERE, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / name)})
    ours, strangers = environments
    # The one option left out is that by which the head asks the cloud for nodes.
    head = [word for word in ray_start(config["head_start_ray_commands"]) if "autoscaling-config" not in word]
    join = [
        word.replace("$RAY_HEAD_IP", ADDRESSES[0]) for word in ray_start(config["worker_start_ray_commands"])
    ]
    command = [sys.executable, "-m", "jobs.mine", str(recipe), "--out", str(out)]
    command += ["--address", f"{ADDRESSES[0]}:6379"]
    with two_nodes(tmp_path, Path("/tmp/ray")) as (first, second):
        assert first.finish(head, log, tmp_path, ours) == 0, log.read_text()
        assert second.finish([*join, "--num-cpus=4"], log, tmp_path, ours) == 0, log.read_text()
        assert first.finish(command, tmp_path / "refused", tmp_path, strangers) == 2
        assert (tmp_path / "refused").read_text().startswith("connote: refused: the cluster at")
        assert "asks for a token" in (tmp_path / "refused").read_text()
        assert not runs.tables(out), "who has not the token computes nothing"
        driver = first.start(command, log, tmp_path, ours)
        seen = set[str]()
        while driver.poll() is None:
            first.finish([sys.executable, "-c", SCRAPE], tmp_path / "metrics", tmp_path, ours)
            seen |= set(re.findall(r"^(ray_connote_\w+)\{", (tmp_path / "metrics").read_text(), re.MULTILINE))
        assert driver.returncode == 0, log.read_text()
    assert seen >= KNOWN.keys(), f"metrics that nobody can read: {KNOWN.keys() - seen}"
    told = re.findall(r"^ray_connote_samples_total\{(.*)\}", (tmp_path / "metrics").read_text(), re.MULTILINE)
    assert any(f'run="{out}"' in tags and 'stage="caption"' in tags for tags in told)
    assert len(runs.tables(out)) == 3 * runs.PARTS
    assert actors_on(out) == {"two"}, "the head does no work"
    planned = command_line.finish("plan", recipe, "--out", out)
    assert (
        "describe, associate, caption: requests and tokens measured, rate measured, disk measured" in planned
    )


def test_the_slurm_script_runs_a_recipe_on_two_nodes(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, delay_s=0.1)
    out, log = tmp_path / "out", tmp_path / "log"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    given = {
        **HERE,
        "PATH": f"{tmp_path / 'bin'}:{HERE['PATH']}",
        "CONNOTE_VENV": sys.prefix,
        "SLURM_JOB_ID": JOB,
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_GPUS_ON_NODE": "0",
    }
    script = ["bash", str(CLUSTER / "slurm.sh"), str(recipe), "--out", str(out)]
    with two_nodes(tmp_path, Path(f"/tmp/connote-{JOB}")) as (first, second):
        other = second.start(["bash", "-c", SLURMD], tmp_path / "two.log", tmp_path, given)
        status = first.finish([*script, "--set", "run.max_failed_share=0"], log, tmp_path, given)
        said = log.read_text() + (tmp_path / "two.log").read_text()
        assert status == 1, f"the recipe's own status: it has broken images\n{said}"
        other.wait(200)  # it leaves once it has looked for the head for a minute
    assert len(runs.tables(out)) == 3 * runs.PARTS
    assert actors_on(out) == {"one", "two"}, said
    assert not list(tmp_path.glob(".connote-*")), "nothing is left behind"


def actors_on(out: Path) -> set[str]:
    """The names of the machines that described images."""
    said = [row["description"] for row in runs.rows(out, "describe").values()]
    return {text.split()[-1] for text in said if text}
