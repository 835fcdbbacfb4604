"""Small runs for the tests of flow: made, started as users do, watched and compared."""

from __future__ import annotations

import io
import socket
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yaml
from PIL import Image

from tests import command
from tests.process import Run

SAMPLES, PER_SHARD, PART_ROWS = 60, 20, 6
PARTS = 12  # four of each shard: 6 + 6 + 6 + 2

#: What vLLM's engines are called, and what they are called before. They keep that if a variable that is set
#: anew meanwhile is the first of their environment, which Ray orders by chance: setproctitle fails then.
ENGINES = ("EngineCore", "multiprocessing.spawn")


def write_tars(directory: Path, samples: int = SAMPLES, per_shard: int = PER_SHARD, first: int = 0) -> Path:
    """Tars of small images, one of which in each shard is broken."""
    directory.mkdir(parents=True, exist_ok=True)
    for start in range(first, first + samples, per_shard):
        with tarfile.open(directory / f"{start:05d}.tar", "w") as tar:
            for index in range(start, start + per_shard):
                sink = io.BytesIO()
                Image.new("RGB", (24, 24), (index * 7 % 256, index % 256, 90)).save(sink, "PNG")
                data = b"broken" if index % per_shard == 3 else sink.getvalue()
                for name, content in ((f"{index:05d}.png", data), (f"{index:05d}.txt", b"one colour")):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return directory


def write_recipe(
    path: Path, images: Path, /, delay_s: float = 0.0, actors: int = 1, **sections: object
) -> Path:
    """A recipe of all three stages with scripted generators in two pools."""
    script = {"backend": "scripted", "delay_s": delay_s, "actors": actors, "cpus": 0.5}
    recipe = {
        "images": {"source": "webdataset", "uri": str(images)},
        "run": {"part_rows": PART_ROWS, "max_failed_share": 0.2},
        "generators": {"seer": script, "poet": script},
        "describe": {"generator": "seer"},
        "associate": {"generator": "seer"},
        "caption": {"generator": "poet"},
        **sections,
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(recipe: Path, out: Path | str, *arguments: str) -> Run:
    """Start `connote run` as a process of its own."""
    return Run("jobs.mine", recipe, "--out", out, *arguments)


def finish(recipe: Path, out: Path | str, *arguments: str, status: int = 0) -> str:
    """Run to the end, in this process, and return what was printed."""
    return command.finish("run", recipe, "--out", out, *arguments, status=status)


def finish_alone(recipe: Path, out: Path | str, *arguments: str, status: int = 0) -> str:
    """The same in a process of its own, which joins or starts Ray itself."""
    process = start(recipe, out, *arguments)
    text = process.end(900)
    assert process.returncode == status, text
    return text


def tables(out: Path) -> dict[str, bytes]:
    """Every committed stage table, by its path in the run directory."""
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("stages/*/part-*.parquet"))
    }


def rows(out: Path, stage: str) -> dict[str, dict[str, Any]]:
    """The rows of a stage by key."""
    paths = sorted(out.glob(f"stages/{stage}-*/part-*.parquet"))
    return {row["key"]: row for path in paths for row in pq.read_table(path).to_pylist()}


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """What changes when a table is written again: its inode and its time."""
    paths = sorted(out.glob("stages/*/part-*.parquet"))
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def descendants(process: Run, *titles: str, but: str | None = None) -> list[psutil.Process]:
    """The processes that a run started, directly or not, with one of these in their title, and not that."""
    assert process.poll() is None, f"the run has ended ({process.returncode}):\n{process.said()}"
    return titled(psutil.Process(process.pid).children(recursive=True), *titles, but=but)


def titled(processes: Iterable[psutil.Process], *titles: str, but: str | None = None) -> list[psutil.Process]:
    """Those of the processes that are there and have one of these in their title, and not that."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            words = " ".join(process.cmdline())
            if any(title in words for title in titles) and (but is None or but not in words):
                found.append(process)
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
