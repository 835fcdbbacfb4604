"""How well the embedded model does its tasks, through the whole engine, on scenes it never saw.

Not a speed: every share is measured against what is asked of it, and the ratio is the worst one.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.outcome import Outcome, main
from engine.export.mined import MinedSample, SampleReader, open_run
from engine.flow.mine import mine
from engine.recipe import load_recipe
from engine.rundir import RunDirectory
from engine.schema import LEVELS
from engine.stages.words import contains
from engine.terrarium import Scene, scene
from engine.terrarium.evaluate import score_associations, score_caption, score_description
from engine.terrarium.write import write_shards

RECIPE = Path("jobs/recipes/terrarium.yaml")
SEED = 97
GOALS = {"recall": 0.95, "precision": 0.95, "associations valid": 0.90, "captions containing": 0.95}


def run(quick: bool) -> Outcome:
    """The worst share over its goal, on 500 unseen scenes."""
    scenes = 100 if quick else 500
    with tempfile.TemporaryDirectory() as name:
        images, out = f"{name}/images", f"{name}/run"
        write_shards(Path(images), scenes, shard_rows=250, seed=SEED)
        recipe = load_recipe(RECIPE, [f"images.uri={images}", f"run.out={out}", "run.part_rows=64"])
        mine(recipe, RunDirectory.at(out), say=lambda line: None)
        counts = Counter[str]()
        for sample in _samples(out):
            seed, index = sample.key.split("-")
            counts += _score(sample, scene(int(seed), int(index)))
    shares = {
        "recall": counts["right"] / (counts["right"] + counts["missing"]),
        "precision": counts["right"] / (counts["right"] + counts["wrong"]),
        "associations valid": counts["valid"] / counts["given"],
        "captions containing": counts["containing"] / counts["captions"],
    }
    for what, share in shares.items():
        print(f"  {what:20} {share:.4f}  (goal {GOALS[what]:.2f})")
    print(f"  captions grounded    {counts['grounded'] / counts['captions']:.4f}")
    print(f"  captions flagged     {counts['flagged'] / counts['captions']:.4f}")
    print(f"  captions a scene     {counts['captions'] / scenes:.2f}")
    worst = min(GOALS, key=lambda what: shares[what] / GOALS[what])
    return Outcome(
        "terrarium_quality", shares[worst] / GOALS[worst], 1.0, f"goal_of_{worst.replace(' ', '_')}"
    )


def _samples(out: str) -> Iterator[MinedSample]:
    mined = open_run(RunDirectory.at(out))
    reader = SampleReader(mined)
    for part in mined.parts():
        yield from reader.part(part)


def _score(sample: MinedSample, truth: Scene) -> Counter[str]:
    right, wrong, missing = score_description(sample.description or "", truth)
    counts = Counter(right=right, wrong=wrong, missing=missing)
    for item in sample.elements or ():
        valid, given = score_associations(
            {level: item[level] or [] for level in LEVELS}, truth, item["element"]
        )
        counts.update(valid=valid, given=given)
    for item in sample.creative_captions or ():
        text = item["caption"] or ""
        grounded = score_caption(text, item["association"], truth).grounded
        counts.update(captions=1, containing=int(contains(text, item["association"])))
        counts.update(grounded=int(grounded), flagged=int(item["flag"] is not None))
    return counts


if __name__ == "__main__":
    main(run)
