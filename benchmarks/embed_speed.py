"""Image vectors through the engine, over the best plain loop around the same model.

Models of open_clip with random weights, in batches of 32; four sets of JPEGs, two questions. A ViT-B-32
takes images of 640 x 480, as MS-COCO has them, and of 6000 x 4000, as a camera writes them: the goals are
0.95 of the loop and 1.5 of clip-retrieval. On the small ones a processor spends nearly all of its time in the
model's matrix products, on every side, so that in float32 only the first can be reached. What is left is to
multiply in bfloat16, where the processor has instructions for it (`embed.compute`; the loop does so too,
clip-retrieval cannot on a processor): the second set, left out elsewhere. On the large ones each image costs
a core 100 ms in the model and 50 in the decoder, or 300 where all of the JPEG is decoded.
The last set asks how well decoding is done, as it is most of the work beside a GPU with any model: images
of 3000 x 2000 under a ViT-S-32 of two layers, which leaves both cores of a small machine to the decoder.
The engine reads, decodes, computes and commits Parquet; the loop (`benchmarks/embed_speed_loop.py`) keeps
its vectors in memory. It decodes ahead by threads or by worker processes, whichever is faster in the first
round, and reduces JPEGs in their decoder as the engine does; its rate without that is printed once.
Start-up is left out, and so are the first and the last four batches, when less is in flight. Memory is that
of a side's process with all that it starts, Ray's own among them, and what they share counted once.

On all sides the model computes with one thread, and what prepares its images has the other core, as a GPU
has nobody else on it. With both of two cores under the model's threads Ray's idle processes alone take some
5 % (each about 1 % of a core: raylet, GCS, agents, the run's own actors), which is a figure of the machine.

So do they in the last set's ratio, whose machine has no core to spare; hence its floor. In milliseconds of
a core for one of its images, in the steady middle of a run: the loop has 19.3 of the 20.1 that two cores
have; the engine has 20.1 in the actor (JPEG 11.3, resizing 1.7, model 5.5, the rest Python and Ray), 1.2
for reading and handing images over (2.7 before they were read into Arrow's memory and carried without
Arrow's stream format), 0.6 in the driver, 0.9 in Ray's other processes, and 1 of nobody. What is Ray's own
does not grow with the machine.

A second peer is clip-retrieval's inference, which needs an environment of its own: CONNOTE_CLIP_RETRIEVAL
names the Python of one made by `uv pip install clip-retrieval==2.45.0 "setuptools<81" torch==2.13.0
torchvision==0.28.0`; without it that peer is left out. `--images DIRECTORY` takes photographs of one's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import watched
from benchmarks.outcome import Outcome, conclude, median

BATCH, THREADS, WORKERS, IN_FLIGHT = 32, 1, 2, 2
#: Batches at either end that do not count: as many as the side that reads furthest ahead has in hand.
EDGE = 4
PEER = Path(__file__).with_name("embed_speed_peer.py")
LOOPS = {
    "threads": ("threads", "reduced"),
    "workers": ("workers", "reduced"),
    "threads, all of each JPEG": ("threads", "full"),
}


@dataclass(frozen=True)
class ImageSet:
    """JPEGs of one size under one model.

    Attributes:
        model: of open_clip.
        layers: of its image tower.
        size: of the images, in pixels.
        count: of images.
        floors: of the ratios to the plain loop and to clip-retrieval.
        compute: what the engine and the plain loop have the model compute in.
    """

    model: str
    layers: int
    size: tuple[int, int]
    count: int
    floors: tuple[float, float]
    compute: str = "float32"


SETS = {
    "embed_speed": ImageSet("ViT-B-32", 12, (640, 480), 384, (0.95, 0.95)),
    "embed_speed_bfloat16": ImageSet("ViT-B-32", 12, (640, 480), 768, (0.95, 1.5), "bfloat16"),
    "embed_speed_photographs": ImageSet("ViT-B-32", 12, (6000, 4000), 384, (0.95, 1.5)),
    "embed_speed_decoding": ImageSet("ViT-S-32", 2, (3000, 2000), 2560, (0.75, 1.5)),
}
#: Different pictures of a set: the others are further names of the same files.
DISTINCT = 48


def run(quick: bool, own: Path | None, names: list[str]) -> list[Outcome]:
    """Images/s of the engine, against a plain loop and clip-retrieval."""
    outcomes = []
    for name in names:
        each = SETS[name]
        if each.compute == "bfloat16" and not multiplies_bfloat16():
            print(f"  {name} is left out: this processor has no instructions for bfloat16", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_model(root / "model", each.model, each.layers)
            if own is None:
                write_images(root / "images", each.size, each.count)
            what = f"JPEGs of {each.size[0]} x {each.size[1]}" if own is None else str(own)
            print(f"  {name}: {each.model}, {each.layers} layers, {each.compute}, {what}", flush=True)
            rates = measure(own or root / "images", root, each.compute, rounds=1 if quick else 3)
        outcomes += judge(name, rates, *each.floors)
    return outcomes


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; elsewhere float32 is faster, often by far."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def measure(images: Path, root: Path, compute: str, rounds: int) -> dict[str, list[float]]:
    """Images/s of each side in each round; the sides of a round run one after the other."""
    rates: dict[str, list[float]] = {}
    loops, peaks = list(LOOPS), dict[str, float]()
    for index in range(rounds):
        found = {"engine": side("ours", images, root, compute, f"run{index}")}
        for label in loops:
            found[label] = side("loop", images, root, compute, *LOOPS[label])
        if python := os.environ.get("CONNOTE_CLIP_RETRIEVAL"):
            found["clip-retrieval"] = clip_retrieval(python, images, root, index)
        told = {label: rate for label, (rate, _) in found.items()}
        line = "; ".join(f"{label} {rate:.1f}" for label, rate in told.items())
        print(f"  {line} images/s", flush=True)
        loops = [max(("threads", "workers"), key=told.__getitem__)] if index == 0 else loops
        for label, (rate, peak) in found.items():
            rates.setdefault(label, []).append(rate)
            peaks[label] = max(peaks.get(label, 0), peak)
    line = "; ".join(f"{label} {peak:,.0f}" for label, peak in peaks.items())
    print(f"  {line} MiB at most")
    check_same(root)
    return {label: told for label, told in rates.items() if len(told) == rounds}


def judge(name: str, rates: dict[str, list[float]], of_loop: float, of_peer: float) -> list[Outcome]:
    """The ratios, of rounds that ran one after the other."""
    best = max(set(rates) & {"threads", "workers"}, key=lambda label: statistics.median(rates[label]))
    pairs = {name: (best, of_loop, f"plain_torch_loop_on_{best}")}
    if "clip-retrieval" in rates:
        pairs[f"{name}_second"] = ("clip-retrieval", of_peer, "clip-retrieval")
    else:
        print("  clip-retrieval is left out: CONNOTE_CLIP_RETRIEVAL names no Python that has it")
    return [
        Outcome(
            label, median([a / b for a, b in zip(rates["engine"], rates[peer], strict=True)]), least, against
        )
        for label, (peer, least, against) in pairs.items()
    ]


def write_images(directory: Path, size: tuple[int, int], count: int) -> None:
    """Scenes of the embedded world at the size of a photograph, under a soft light of its own, with grain."""
    from engine.terrarium.render import image
    from engine.terrarium.world import scene

    directory.mkdir(parents=True)
    across, down = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]))
    random = np.random.default_rng(4)
    for index in range(DISTINCT):
        large = image(scene(11, index)).resize(size, Image.Resampling.BICUBIC)
        light = 30 * (across * random.uniform(-1, 1) + down * random.uniform(-1, 1))
        grain = random.integers(-6, 7, (size[1], size[0]), np.int8)
        pixels = np.clip(np.asarray(large, np.float32) + (light + grain)[..., None], 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(directory / f"{index:06d}.jpg", quality=90)
    for index in range(DISTINCT, count):
        (directory / f"{index:06d}.jpg").hardlink_to(directory / f"{index % DISTINCT:06d}.jpg")


def write_model(directory: Path, name: str, layers: int) -> None:
    """A model as open_clip publishes one, with random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    directory.mkdir()
    settings = open_clip.get_model_config(name)
    settings["vision_cfg"]["layers"] = layers
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**settings).state_dict(), directory / "open_clip_model.safetensors")
    told = {"model_cfg": settings, "preprocess_cfg": {}}
    (directory / "open_clip_config.json").write_text(json.dumps(told))


def side(name: str, images: Path, root: Path, compute: str, *more: str) -> tuple[float, float]:
    """Images/s and peak MiB of the engine or of a loop, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.embed_speed", f"--{name}"]
    printed, peak = watched.run([*command, str(images), str(root), compute, *more])
    return float(printed), peak


def clip_retrieval(python: str, images: Path, root: Path, index: int) -> tuple[float, float]:
    """Images/s and peak MiB of clip-retrieval."""
    out = root / f"clip-retrieval{index}"
    arguments = [str(images), str(root / "model"), str(out), *map(str, (BATCH, THREADS, WORKERS))]
    printed, peak = watched.run([python, str(PEER), *arguments])
    return steady(json.loads(printed)), peak


def ours(images: Path, root: Path, compute: str, out: str) -> float:
    """Images/s of the engine, by the times at which its tables were committed."""
    import pyarrow.parquet as pq

    from engine.flow.mine import mine
    from engine.recipe import Recipe
    from engine.rundir import RunDirectory

    encoder = f"open_clip:{root}/model/open_clip_config.json/open_clip_model.safetensors"
    recipe = Recipe.model_validate(
        {
            "images": {"source": "folder", "uri": str(images)},
            "run": {"out": str(root / out), "part_rows": BATCH, "parts_in_flight": IN_FLIGHT},
            "embed": {"encoders": [encoder], "compute": compute, "batch": BATCH, "cpus": THREADS},
        }
    )
    mine(recipe, RunDirectory.at(str(root / out)), say=lambda line: None)
    parts = list(root.glob(f"{out}/stages/embed-images-*/part-*.parquet"))
    return steady([(path.stat().st_mtime_ns / 1e9, pq.read_metadata(path).num_rows) for path in parts])


def loop(images: Path, root: Path, compute: str, way: str, decode: str) -> float:
    """Images/s of a plain loop."""
    from benchmarks import embed_speed_loop

    paths = sorted(images.rglob("*.jpg"))
    reduced = decode == "reduced"
    finished, vectors = embed_speed_loop.run(
        way, paths, root / "model", compute, BATCH, THREADS, WORKERS, reduced
    )
    if reduced:
        np.savez(
            root / "loop.npz",
            keys=[str(path.relative_to(images).with_suffix("")) for path in paths],
            vectors=vectors,
        )
    return steady(finished)


def steady(finished: list[tuple[float, int]]) -> float:
    """Images/s without the parts that are in flight at the beginning and at the end."""
    middle = sorted(finished)[EDGE - 1 : -EDGE]
    if len(middle) < 2:
        raise SystemExit(
            f"embed_speed: {len(finished)} batches are too few; take {(2 * EDGE + 1) * BATCH} images"
        )
    return sum(count for _, count in middle[1:]) / (middle[-1][0] - middle[0][0])


def check_same(root: Path) -> None:
    """Stop if the engine's vectors are others than the loop's."""
    import pyarrow.dataset as ds

    parts = root.glob("run0/stages/embed-images-*/part-*.parquet")
    found = ds.dataset([str(path) for path in parts]).to_table()
    mine = {
        str(Path(key).with_suffix("")): np.array(vector)
        for key, vector in zip(found["key"].to_pylist(), found["vector"].to_pylist(), strict=True)
    }
    with np.load(root / "loop.npz") as theirs:
        cosines = [
            mine[key] @ vector.astype(float)
            for key, vector in zip(theirs["keys"], theirs["vectors"], strict=True)
        ]
    print(f"  vectors of both sides: cosines of {min(cosines):.4f} or more")
    if min(cosines) < 0.99:
        raise SystemExit("embed_speed: the engine's vectors are not those of the loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=run.__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of fewer images")
    parser.add_argument("--images", type=Path, help="a folder of JPEGs to embed, instead of made ones")
    parser.add_argument(
        "--sets", nargs="+", choices=list(SETS), default=list(SETS), help="which; by default all"
    )
    arguments = parser.parse_args()
    conclude(run(arguments.quick, arguments.images and arguments.images.resolve(), arguments.sets))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        print(ours(Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:6]))
    elif sys.argv[1:2] == ["--loop"]:
        print(loop(Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:7]))
    else:
        main()
