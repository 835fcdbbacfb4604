"""Descriptions through the engine, over the same work through ray.data.llm.

ray.data.llm pins another vLLM, so it runs in an environment of its own, made here from
`requirements/ray-data-llm.txt` (needs uv). Both sides read the same tars, ask the same prompt of
the same model and write Parquet. Batch and part have the same size, and both have the same requests
in flight. Start-up is left out of both, and so are the first and the last four batches, when less is
in flight.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.outcome import Outcome, main, median
from benchmarks.speed_of_light import PART_ROWS, measure
from engine.terrarium import MODEL_DIR
from engine.terrarium.write import write_shards

ENVIRONMENT = Path(".venv-ray-data-llm")
PEER = Path(__file__).with_name("ray_data_llm_peer.py")


def run(quick: bool) -> Outcome:
    """Descriptions/s through the engine, against ray.data.llm."""
    rounds, samples = (1, 1536) if quick else (3, 3072)
    _prepare()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_shards(root / "images", samples, shard_rows=512, seed=11)
        ratios = []
        for index in range(rounds):
            ours = measure("ours", root, str(root / f"run{index}"))
            theirs = _peer(root / "images", root / f"peer{index}")
            print(f"  engine {ours:.1f} descriptions/s, ray.data.llm {theirs:.1f}")
            ratios.append(ours / theirs)
        return Outcome("ray_data_llm", median(ratios), 1.0, "ray.data.llm")


def _prepare() -> None:
    if (ENVIRONMENT / ".ready").exists():
        return
    requirements = "requirements/ray-data-llm.txt"
    subprocess.run(
        ["uv", "venv", "-q", "--allow-existing", "--python", "python3", str(ENVIRONMENT)], check=True
    )
    environment = {**os.environ, "VIRTUAL_ENV": str(ENVIRONMENT.resolve())}
    subprocess.run(
        ["uv", "pip", "install", "-q", "--no-deps", "-r", requirements], check=True, env=environment
    )
    (ENVIRONMENT / ".ready").touch()


def _peer(images: Path, out: Path) -> float:
    command = [
        str(ENVIRONMENT.resolve() / "bin" / "python"),
        str(PEER),
        str(images),
        str(out),
        str(MODEL_DIR),
    ]
    done = subprocess.run([*command, str(PART_ROWS)], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main(run)
