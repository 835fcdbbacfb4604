"""Descriptions through the engine, over a bare loop around vLLM's AsyncLLM.

Both serve the same images, prompts, model, engine arguments and sampling. Start-up is left out of
both, and so are the first and the last parts, when less is in flight (see `steady_rate`). The loop
has its images decoded beforehand and writes nothing, so it is what vLLM can do at best.

vLLM has one core of its own on both sides, and what prepares its requests has the rest, as a GPU
has nobody else on it. With both of two cores under vLLM's threads each wake-up of another process
stops one thread while the other waits for it: Ray's idle daemons alone cost some 7 % then, beside
the bare loop as beside the engine. That is a figure of the machine and not of either loop.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from PIL import Image

from benchmarks.outcome import Outcome, main, median
from engine.recipe import Recipe, Vllm
from engine.terrarium.write import write_shards

SAMPLING = {"temperature": 0, "top_p": 1, "max_tokens": 96}
DESCRIBE = {"type": "text", "text": "describe"}
PART_ROWS, PARTS_IN_FLIGHT = 64, 4


def run(quick: bool) -> Outcome:
    """Descriptions/s through the engine, against bare AsyncLLM."""
    rounds, samples = (1, 1536) if quick else (7, 3072)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_shards(root / "images", samples, shard_rows=512, seed=11)
        ratios = []
        for index in range(rounds):
            # One after the other, each in a process of its own: nothing is shared but the machine.
            # Which is first alternates: a machine that slows down or speeds up favours neither.
            if index % 2:
                bare = measure("bare", root, "")
            ours = measure("ours", root, str(root / f"run{index}"))
            if not index % 2:
                bare = measure("bare", root, "")
            print(f"  engine {ours:.1f} descriptions/s, bare loop {bare:.1f}")
            ratios.append(ours / bare)
        return Outcome("speed_of_light", median(ratios), 0.95, "bare_AsyncLLM")


def measure(side: str, root: Path, out: str) -> float:
    command = [sys.executable, "-m", "benchmarks.speed_of_light", f"--{side}", str(root / "images"), out]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def settings() -> Vllm:
    """The generator of both sides."""
    return Vllm(backend="vllm", model="terrarium", cpus=1, requests_in_flight=128)


def ours(images: Path, out: str) -> float:
    """Descriptions/s of the engine."""
    from engine.flow.cluster import cluster
    from engine.flow.mine import refresh_catalog
    from engine.flow.pipeline import stream
    from engine.flow.pools import plan_pools
    from engine.flow.reading import READING
    from engine.rundir import RunDirectory
    from engine.stages import build_stages

    recipe = Recipe.model_validate(
        {
            "images": {"source": "webdataset", "uri": str(images)},
            "run": {"out": out, "part_rows": PART_ROWS, "parts_in_flight": PARTS_IN_FLIGHT},
            "generators": {"seer": settings().model_dump()},
            "describe": {
                "generator": "seer",
                "prompt": "package:engine.terrarium/prompts/describe.txt",
                "sampling": SAMPLING,
            },
        }
    )
    run, stages = RunDirectory.at(out), build_stages(recipe)
    pools, _ = plan_pools(recipe, run, stages, retry_failed=False)
    with cluster(None, [*(pool.demand for pool in pools), READING], verbose=False):
        plan = refresh_catalog(recipe, run, lambda _: None, lambda line: None)
        finished = [
            (time.perf_counter(), report.rows)
            for report in stream(plan, run, pools, recipe.run.parts_in_flight)
        ]
    return steady_rate(finished)


def bare(images: Path) -> float:
    """Descriptions/s of a loop around AsyncLLM."""
    from engine.generation.vllm_settings import engine_arguments, prepare_environment

    prepare_environment(settings())
    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.renderers import ChatParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    pictures = _pictures(images)
    config = AsyncEngineArgs(**engine_arguments(settings())).create_engine_config(UsageContext.LLM_CLASS)
    engine = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
    sampling = SamplingParams(**SAMPLING, output_kind=RequestOutputKind.FINAL_ONLY)

    chat = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
    finished: list[float] = []

    async def one(room: asyncio.Semaphore, number: int, picture: Image.Image) -> None:
        # Chat messages and a name for the picture: faster here than a text prompt with pixels to hash.
        content = [{"type": "image_pil", "image_pil": picture, "uuid": str(number)}, DESCRIBE]
        async with room:
            messages = [{"role": "user", "content": content}]
            _, (prompt,) = await engine.renderer.render_chat_async([messages], chat)
            async for _ in engine.generate(prompt, sampling, f"r{number}"):
                pass
        finished.append(time.perf_counter())

    async def play() -> float:
        room = asyncio.Semaphore(settings().requests_in_flight)
        await asyncio.gather(*(one(room, number, picture) for number, picture in enumerate(pictures)))
        return steady_rate([(moment, 1) for moment in finished])

    rate = asyncio.run(play())
    engine.shutdown()
    return rate


def steady_rate(finished: Sequence[tuple[float, int]]) -> float:
    """Rows/s of (moment, rows) events, without the parts that fly at the beginning and at the end.

    Parts that are in flight when the first one finishes had a share of the time before it; the
    last ones have the machine for fewer and fewer.
    """
    edge = PARTS_IN_FLIGHT * PART_ROWS
    done = list(accumulate(rows for _, rows in finished))
    first = bisect_left(done, edge)
    last = bisect_right(done, done[-1] - edge) - 1
    return (done[last] - done[first]) / (finished[last][0] - finished[first][0])


def _pictures(images: Path) -> list[Image.Image]:
    found = []
    for path in sorted(images.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None and member.name.endswith((".png", ".jpg")):
                    found.append(Image.open(io.BytesIO(file.read())).convert("RGB"))
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        print(ours(Path(sys.argv[2]), sys.argv[3]))
    elif sys.argv[1:2] == ["--bare"]:
        print(bare(Path(sys.argv[2])))
    else:
        main(run)
